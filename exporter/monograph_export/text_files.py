"""Texts from files: the exporter's own sentences, and what a user gives."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from monograph.errors import ExportError, InputError
from monograph.text_lines import open_texts


def read_sentences(package: str, file: str, language: str | None = None) -> list[str]:
    """Return the texts of a file in a package, in its order, of one language or of all.

    Its lines are a language, a tab and a text each.
    """
    lines = importlib.resources.files(package).joinpath(file).read_text("utf-8").splitlines()
    pairs = (line.split("\t", 1) for line in lines)
    return [text for of, text in pairs if language in (None, of)]


def read_texts(file: Path) -> list[str]:
    """Return the different texts of a file that are not blank, in its order: one per line, or .jsonl, as `embed` reads.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    return different_texts(read_lines(file))


def different_texts(lines: Sequence[str]) -> list[str]:
    """Return the different lines that are not blank, in their order."""
    return list(dict.fromkeys(line for line in lines if line.strip()))


def read_lines(file: Path) -> list[str]:
    """Return every line of a file, of which one at least is not blank, or every text of a .jsonl.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    if file.is_dir():
        raise ExportError(f"{file} is a folder: give a UTF-8 file with one text a line")
    try:
        with open_texts(str(file), None) as lines:
            texts = list(lines)
    except (OSError, InputError) as error:
        # Without the path, which an OSError names again.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ExportError(f"cannot read the texts of {file}: {reason}") from error
    if not any(text.strip() for text in texts):
        raise ExportError(f"{file} has no text: give a UTF-8 file with one text a line")
    return texts
