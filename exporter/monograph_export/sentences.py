"""The exporter's own sentences: files of lines, each a language, a tab and a text."""

from __future__ import annotations

import importlib.resources


def read_sentences(package: str, file: str) -> list[str]:
    """Return the texts of a file in a package, in its order."""
    lines = importlib.resources.files(package).joinpath(file).read_text("utf-8").splitlines()
    return [line.split("\t", 1)[1] for line in lines]
