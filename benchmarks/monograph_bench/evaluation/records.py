"""Lines, rows and JSON records of a file, each with the number of its line for errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from monograph.errors import InputError
from monograph.inputs import check_utf8
from monograph.text_lines import TextLines


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file without their ends, counted from 1.

    Raises:
        InputError: a line is not UTF-8, or the file is compressed.
        OSError: the file cannot be read.

    """
    if file.suffix == ".gz":
        raise InputError(f"{file} is compressed: `gunzip --keep` it and name the file that this makes")
    with file.open("rb") as stream:
        yield from enumerate(TextLines(stream, str(file), None), start=1)


def table_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row of a table, with the number of the line on which the row ends; blank lines not.

    A table whose first line holds a tab is split at tabs, and quotation marks in it are text, as in SemEval's and
    STSbenchmark's files; any other is CSV with commas and quotation marks.

    Raises:
        InputError: the file is not UTF-8 or not CSV.
        OSError: the file cannot be read.

    """
    lines = numbered_lines(file)
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if "\t" in first[1]:
        yield from ((number, line.split("\t")) for number, line in lines if line.strip())
        return
    reader = csv.reader((line + "\n" for _, line in lines), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{file} line {reader.line_num} is not CSV ({error}): double the quotation marks within quoted texts"
        ) from error


def json_records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object of each line that is not blank.

    Raises:
        InputError: a line is not UTF-8 or not a JSON object.
        OSError: the file cannot be read.

    """
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} line {number} is not JSON ({error}): write one object per line") from error
        if not isinstance(record, dict):
            raise InputError(f"{file} line {number} is JSON, and not an object: write one object per line")
        yield number, record


def text_field(record: dict[str, Any], field: str, where: str) -> str:
    """Return the text in a field of a record; ``where`` is what an error calls the record.

    Raises:
        InputError: the field is missing, is not a str, or holds a lone surrogate.

    """
    value = record.get(field)
    if not isinstance(value, str):
        raise InputError(f"{where} has no text in the field {field!r}: give each record one")
    return check_utf8(value, where)


def texts_field(record: dict[str, Any], field: str, where: str) -> list[str]:
    """Return the list of texts, it may be empty, in a field of a record; ``where`` is what an error calls the record.

    Raises:
        InputError: the field is missing, is no list of str, or a text of it holds a lone surrogate.

    """
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{where} has no list of texts in the field {field!r}: give each record one")
    return [check_utf8(text, where) for text in value]
