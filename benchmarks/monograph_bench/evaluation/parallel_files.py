"""Read texts and their translations: two files with a text a line, or one of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from monograph.errors import InputError
from monograph_bench.evaluation.records import numbered_lines
from monograph_bench.evaluation.translation import ParallelTexts

Item = TypeVar("Item")


def read_parallel(source_file: Path, target_file: Path | None = None) -> ParallelTexts:
    """Read translations: line i of one file is that of line i of the other; or both on a line, a tab between them.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    if target_file is None:
        return _pairs(source_file)
    source, target = read_lines(source_file), read_lines(target_file)
    if len(source) != len(target):
        raise InputError(
            f"{source_file} has {len(source)} lines and {target_file} {len(target)}: line i of one must be the "
            "translation of line i of the other"
        )
    return ParallelTexts(source, target)


def read_lines(file: Path) -> list[str]:
    """Return the texts of a file, one a line, at least one and none of them blank.

    Raises:
        InputError: naming the file and the line that is blank or not UTF-8.
        OSError: the file cannot be read.

    """
    texts = []
    for number, text in numbered_lines(file):
        if not text.strip():
            raise InputError(f"{file} line {number} is blank: remove the line, and the one that belongs to it")
        texts.append(text)
    return _some(texts, file)


def _pairs(file: Path) -> ParallelTexts:
    pairs = []
    for number, line in numbered_lines(file):
        fields = line.split("\t")
        # More columns are ids or further languages, and which two are meant is not ours to guess.
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise InputError(
                f"{file} line {number} is not two texts with a tab between them ({len(fields)} columns): choose two "
                "with `cut -f`, or name two files of a text a line"
            )
        pairs.append((fields[0], fields[1]))
    source, target = map(list, zip(*_some(pairs, file), strict=True))
    return ParallelTexts(source, target)


def _some(items: list[Item], file: Path) -> list[Item]:
    if not items:
        raise InputError(f"{file} is empty: give at least one text")
    return items
