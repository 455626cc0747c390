"""The texts a compression is calibrated with, and those it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monograph_export.text_files import read_sentences, read_texts

# Texts of a file that are used: more make no better ranges, and each is embedded several times.
_CALIBRATION_LIMIT = 512
_HELD_OUT_LIMIT = 1000
BUILT_IN = "built-in sentences of 37 languages"


@dataclass(frozen=True)
class CalibrationTexts:
    """Texts to calibrate with, and others to judge the result by.

    ``origin`` says where the former come from, ``reduced`` whether some were left out for the tokens they need.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    origin: str
    reduced: bool = False

    def only(self, chosen: Callable[[Sequence[str]], list[str]]) -> CalibrationTexts:
        """Return those that a function chooses of either part."""
        calibration, held_out = tuple(chosen(self.calibration)), tuple(chosen(self.held_out))
        if (calibration, held_out) == (self.calibration, self.held_out):
            return self
        origin = f"{len(calibration)} texts that the kept tokens write as before, of {self.origin}"
        return CalibrationTexts(calibration, held_out, origin, reduced=True)


def built_in_texts() -> CalibrationTexts:
    """Return sentences of many languages: of every two of the same kind and length, one for either purpose."""
    sentences = read_sentences(__package__, "sentences.txt")
    return CalibrationTexts(tuple(sentences[::2]), tuple(sentences[1::2]), BUILT_IN)


def read_calibration(file: Path) -> CalibrationTexts:
    """Return a UTF-8 file's different lines, half to calibrate with and half to judge by.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    return calibration_of(read_texts(file), file.name)


def texts_to_judge_by(texts: Sequence[str], name: str) -> CalibrationTexts:
    """Return texts of a name and built-in ones to judge by, where nothing is calibrated."""
    return CalibrationTexts((), tuple(dict.fromkeys([*texts[:_HELD_OUT_LIMIT], *built_in_texts().held_out])), name)


def calibration_of(texts: Sequence[str], name: str) -> CalibrationTexts:
    """Return different texts of a name, half to calibrate with and half to judge by.

    The built-in sentences to judge by are among the latter: texts of one kind cannot show what compression costs
    another.
    """
    # They may be in any order, and those at the beginning of one kind.
    shuffled = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    calibration, held_out = shuffled[::2][:_CALIBRATION_LIMIT], shuffled[1::2][:_HELD_OUT_LIMIT]
    others = [text for text in built_in_texts().held_out if text not in calibration]
    origin = f"{len(calibration)} of the {len(texts)} different lines of {name}"
    return CalibrationTexts(tuple(calibration), tuple(dict.fromkeys([*held_out, *others])), origin)
