"""Texts from files: the exporter's own sentences, and what a user gives."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from monograph.commands.text_lines import open_texts
from monograph.errors import ExportError, InputError


def read_sentences(package: str, file: str, language: str | None = None) -> list[str]:
    """Return the texts of a file in a package, in its order, of one language or of all.

    Its lines are a language, a tab and a text each.
    """
    lines = importlib.resources.files(package).joinpath(file).read_text("utf-8").splitlines()
    pairs = (line.split("\t", 1) for line in lines)
    return [text for of, text in pairs if language in (None, of)]


def read_texts(file: Path) -> list[str]:
    """Return the different texts of a file that are not blank, in its order: one a line, or .jsonl, as `embed` reads.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    if file.is_dir():
        raise ExportError(f"{file} is a folder: give a UTF-8 file with one text a line")
    try:
        with open_texts(str(file), None) as lines:
            texts = list(dict.fromkeys(text for text in lines if text.strip()))
    except (OSError, InputError) as error:
        raise ExportError(f"cannot read the texts of {file}: {error}") from error
    if not texts:
        raise ExportError(f"{file} has no text: give a UTF-8 file with one text a line")
    return texts
