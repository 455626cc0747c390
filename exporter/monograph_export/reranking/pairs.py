"""The pairs of texts that a compression of a cross-encoder is calibrated with, and those it is judged by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monograph.errors import ExportError
from monograph.inputs import Pair
from monograph_export.compression.texts import (
    BUILT_IN,
    CALIBRATION_LIMIT,
    HELD_OUT_LIMIT,
    Calibration,
    CalibrationFile,
    built_in_texts,
)

_FORM = "a query, a tab and a passage"


def built_in_pairs() -> Calibration[Pair]:
    """Return pairs of sentences of many languages; no sentence is in a pair of either purpose."""
    texts = built_in_texts()
    return Calibration(_paired(texts.calibration), _paired(texts.held_out), f"pairs of {BUILT_IN}")


def _paired(texts: Sequence[str]) -> tuple[Pair, ...]:
    """Return each text beside the next, and every other one beside itself."""
    return (*zip(texts, [*texts[1:], texts[0]], strict=True), *((text, text) for text in texts[::2]))


def pairs_of(file: CalibrationFile) -> Calibration[Pair]:
    """Return a file's different pairs, those of half of its queries to calibrate with and the others to judge by.

    The built-in pairs to judge by are among the latter, as with texts.

    Raises:
        ExportError: a line that is not blank is something else; the first is named.

    """
    pairs = list(dict.fromkeys(_pair(file.name, number, line) for number, line in _numbered(file)))
    queries = list(dict.fromkeys(query for query, _ in pairs))
    # They may be in any order, and those at the beginning of one kind.
    generator = np.random.default_rng(0)
    chosen = {queries[i] for i in generator.permutation(len(queries))[::2]}
    shuffled = [pairs[i] for i in generator.permutation(len(pairs))]
    calibration = [pair for pair in shuffled if pair[0] in chosen][:CALIBRATION_LIMIT]
    held_out = [pair for pair in shuffled if pair[0] not in chosen][:HELD_OUT_LIMIT]
    others = [pair for pair in built_in_pairs().held_out if pair not in calibration]
    origin = f"{len(calibration)} of the {len(pairs)} different pairs of {file.name}"
    return Calibration(tuple(calibration), tuple(dict.fromkeys([*held_out, *others])), origin)


def _numbered(file: CalibrationFile) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(file.lines, start=1) if line.strip()]


def _pair(name: str, number: int, line: str) -> Pair:
    parts = line.split("\t")
    if len(parts) != 2:
        raise ExportError(
            f"{name} line {number} has {len(parts) - 1} tabs: a cross-encoder is calibrated with pairs, so each line "
            f"must be {_FORM}"
        )
    query, passage = parts
    if not query.strip() or not passage.strip():
        raise ExportError(f"{name} line {number} has an empty text: each line must be {_FORM}")
    return query, passage
