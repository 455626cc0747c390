"""The texts a compression is calibrated with, and those it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monograph.errors import ExportError
from monograph_export.sentences import read_sentences

# Texts of a file that are used: more make no better ranges, and each is embedded several times.
_CALIBRATION_LIMIT = 512
_HELD_OUT_LIMIT = 1000
BUILT_IN = "built-in sentences of 37 languages"


@dataclass(frozen=True)
class CalibrationTexts:
    """Texts to calibrate with, and others to judge the result by; ``origin`` says where the former come from."""

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    origin: str


def built_in_texts() -> CalibrationTexts:
    """Return sentences of many languages: of every two of the same kind and length, one for either purpose."""
    sentences = read_sentences(__package__, "sentences.txt")
    return CalibrationTexts(tuple(sentences[::2]), tuple(sentences[1::2]), BUILT_IN)


def read_calibration(file: Path) -> CalibrationTexts:
    """Return a UTF-8 file's different lines, half to calibrate with and half to judge by.

    The built-in sentences to judge by are among the latter: a file of one kind of text cannot show what compression
    costs another.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    lines = _lines(file)
    # A file may be in any order, and its beginning of one kind.
    shuffled = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))]
    calibration, held_out = shuffled[::2][:_CALIBRATION_LIMIT], shuffled[1::2][:_HELD_OUT_LIMIT]
    others = [text for text in built_in_texts().held_out if text not in calibration]
    origin = f"{len(calibration)} of the {len(lines)} different lines of {file.name}"
    return CalibrationTexts(tuple(calibration), tuple(dict.fromkeys([*held_out, *others])), origin)


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read the calibration texts of {file}: {error}") from error
    lines = list(dict.fromkeys(line.strip() for line in content.splitlines() if line.strip()))
    if not lines:
        raise ExportError(f"{file} has no calibration text: give a UTF-8 file with a few hundred texts, one a line")
    return lines
