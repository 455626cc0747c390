"""The texts that a compression is calibrated with, and the held-out ones that measure it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np

from monograph.inputs import InputT
from monograph_export.text_files import different_texts, read_lines, read_sentences

# Texts or pairs of a file that are used: more make no better ranges, and each is computed several times.
CALIBRATION_LIMIT = 512
HELD_OUT_LIMIT = 1000
BUILT_IN = "built-in sentences of 37 languages"


@dataclass(frozen=True)
class CalibrationFile:
    """All lines of a user's file, whose name it has: texts for one task, pairs of them for another."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Calibration(Generic[InputT]):
    """Texts or pairs to calibrate with, and held-out ones to measure the result.

    ``origin`` says where the former come from, ``reduced`` whether some were left out for the tokens they need.
    """

    calibration: tuple[InputT, ...]
    held_out: tuple[InputT, ...]
    origin: str
    reduced: bool = False

    def filtered(self, choose: Callable[[Sequence[InputT]], list[InputT]]) -> Calibration[InputT]:
        """Return those that a function chooses of either part, because a pruned vocabulary can write them."""
        calibration, held_out = tuple(choose(self.calibration)), tuple(choose(self.held_out))
        if (calibration, held_out) == (self.calibration, self.held_out):
            return self
        origin = f"{len(calibration)} texts that the retained tokens write as before, of {self.origin}"
        return Calibration(calibration, held_out, origin, reduced=True)


def built_in_sentences() -> Calibration[str]:
    """Return sentences of many languages: of every two of the same kind and length, one for either purpose."""
    sentences = read_sentences(__package__, "sentences.txt")
    return Calibration(tuple(sentences[::2]), tuple(sentences[1::2]), BUILT_IN)


def built_in_texts() -> Calibration[str]:
    """Return the sentences of many languages, and more English ones that are only calibrated with.

    Many models know no other language, and their inner channels that few English sentences reach are reached by none in
    other languages.
    """
    sentences = built_in_sentences()
    english = read_sentences(__package__, "calibration_sentences.txt")
    return Calibration((*sentences.calibration, *english), sentences.held_out, BUILT_IN)


def read_calibration(file: Path) -> CalibrationFile:
    """Read a UTF-8 file, before it is known whether the model is one of texts or of pairs.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    return CalibrationFile(file.name, tuple(read_lines(file)))


def texts_of(file: CalibrationFile) -> Calibration[str]:
    """Return a file's different lines that are not blank, half to calibrate with and half held out."""
    return split_texts(different_texts(file.lines), file.name)


def held_out_texts(texts: Sequence[str], name: str) -> Calibration[str]:
    """Return texts of a name, and built-in ones, all held out, where nothing is calibrated."""
    return Calibration((), tuple(dict.fromkeys([*texts[:HELD_OUT_LIMIT], *built_in_texts().held_out])), name)


def split_texts(texts: Sequence[str], name: str) -> Calibration[str]:
    """Return different texts of a name, half to calibrate with and half held out.

    The built-in held-out sentences are among the latter: texts of one kind cannot show what compression costs another.
    """
    # They may be in any order, and those at the beginning of one kind.
    shuffled = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    calibration, held_out = shuffled[::2][:CALIBRATION_LIMIT], shuffled[1::2][:HELD_OUT_LIMIT]
    others = [text for text in built_in_texts().held_out if text not in calibration]
    origin = f"{len(calibration)} of the {len(texts)} different lines of {name}"
    return Calibration(tuple(calibration), tuple(dict.fromkeys([*held_out, *others])), origin)
