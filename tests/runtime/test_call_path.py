"""What one ``encode("text")`` goes through: few files, each named in CONTRIBUTING in the order a reader meets them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import monograph
from monograph import Embedder

PACKAGE = Path(monograph.__file__).parent
CONTRIBUTING = PACKAGE.parents[1] / "CONTRIBUTING.md"
MAX_FILES = 9


def test_one_text_passes_the_files_that_contributing_names(tiny_embedder: Embedder) -> None:
    tiny_embedder.encode("one text")
    files: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.setdefault(path.relative_to(PACKAGE).as_posix())

    sys.setprofile(note)
    try:
        tiny_embedder.encode("another text")
    finally:
        sys.setprofile(None)
    passed = [file for file in files if not file.startswith("engines/")]
    section = CONTRIBUTING.read_text(encoding="utf-8").split("## How one text becomes a vector")[1].split("\n## ")[0]
    named = re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)
    assert set(passed) == set(named)
    assert len(passed) <= MAX_FILES
