"""The demo's page needs no network and shows its numbers; the demo itself ends with one, and lets no library speak."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from monograph import Embedder
from support.command import PROGRESS

PROJECT = Path(__file__).parents[2]
# Elements without an end tag.
VOID = {"meta", "br"}


@pytest.fixture(scope="module")
def demo_page() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("demo_page", PROJECT / "scripts" / "demo_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for the names of their annotations.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Page(HTMLParser):
    """The text of a page, its attributes, and whether each element that begins also ends."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_every_number_and_needs_no_other_file(
    demo_page: ModuleType, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    quality = tiny_embedder.manifest.quality
    similarities = np.array([[1, -0.25], [-0.25, 1]], dtype=np.float32)
    plot: Any = demo_page.Plot("One short text", "ms", False, 2, {"ours": 2.5, "torch": 10.0}, "Median of 3 rounds.")
    demo = demo_page.Demo(
        title="a <demo>",
        subtitle="a machine",
        reference=quality.reference,
        verifications=quality.verifications,
        sentences=["A & B", "C"],
        similarities=similarities,
        searches=[demo_page.Search("where?", [(0.512, "<b>there</b>"), (-0.1, "nowhere")])],
        speed_title="Speed",
        plots=[plot],
    )
    file = tmp_path / "build" / "demo.html"
    demo_page.write_page(demo, file)
    content = file.read_text("utf-8")
    page = Page(content)
    for words in (
        "a <demo>",
        "A & B",
        "-0.25",
        "<b>there</b>",
        "0.512",
        "2.50 ms (4.0x)",
        "10.00 ms",
        "less is better",
    ):
        assert words in page.text
    for result in quality.verifications:
        assert f"{result.max_abs_difference:.1e}" in page.text
        assert f"{result.device} ({result.engine} {result.version})" in page.text
    assert content.count(">passed<") == len(quality.verifications)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|<script", content)
    # A bar is no longer than its track, whatever the score.
    widths = [float(width) for width in re.findall(r"width: ([\d.]+)%\"", content)]
    assert widths == [51.2, 0.0, 25.0, 100.0]


@pytest.mark.slow
def test_the_demo_reports_its_steps_and_ends_with_its_page() -> None:
    page = PROJECT / "build" / "demo.html"
    page.unlink(missing_ok=True)
    done = subprocess.run([PROJECT / "scripts" / "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(page), page.as_uri()]
    Page(page.read_text("utf-8"))
    first, *lines = done.stderr.splitlines()
    assert first.startswith("environment: ")
    others = [line for line in lines if not PROGRESS.fullmatch(line) and not line.startswith("finished in ")]
    assert others == []
    for step in ("Tracing the model", "Verifying on cpu at float32", "Measuring speed", "Starting processes"):
        assert any(step in line for line in lines), step
