"""Texts from files: the exporter's own sentences, and what a user gives."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from monograph.errors import ExportError


def read_sentences(package: str, file: str) -> list[str]:
    """Return the texts of a file in a package, in its order; its lines are a language, a tab and a text each."""
    lines = importlib.resources.files(package).joinpath(file).read_text("utf-8").splitlines()
    return [line.split("\t", 1)[1] for line in lines]


def read_texts(file: Path) -> list[str]:
    """Return the different lines of a UTF-8 file that are not blank, in its order.

    Raises:
        ExportError: the file cannot be read, is not UTF-8 or has no text.

    """
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read the texts of {file}: {error}") from error
    lines = list(dict.fromkeys(line.strip() for line in content.splitlines() if line.strip()))
    if not lines:
        raise ExportError(f"{file} has no text: give a UTF-8 file with one text a line")
    return lines
