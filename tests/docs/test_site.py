"""The built site: it loads nothing from elsewhere, has every public name, command and page, and can be searched."""

from __future__ import annotations

import argparse
import html
import importlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import monograph
import monograph_export
from support.pages import DOCS, PROJECT, SITE, name_of, prose

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main")
# Attributes whose address a browser loads by itself, and elements whose href it does.
LOADED = ("src", "srcset", "poster", "data")
LOADED_HREFS = ("link", "use", "image")
# Words that this project once had for what the field calls otherwise: for tolerances, verification results, options,
# retained tokens, encoders from ONNX files and shapes.
PRIVATE_WORDS = re.compile(
    r"\b(yardsticks?|judge[sd]?|told|asked|kept|grafts?|grafted|grafting|turns (?!off)|forms)\b", re.I
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """The addresses that a page loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in LOADED or (name == "href" and tag in LOADED_HREFS):
                self.addresses.append(value or "")
            elif name == "style" and value:
                self.addresses += re.findall(r"url\(([^)]*)\)", value)


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """Nor what the theme's script would fetch for a diagram or a repository."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = Loads(page).addresses
        assert loaded
        assert [address for address in loaded if "//" in address] == [], page
        assert "mermaid" not in page.read_text("utf-8"), page
        assert 'data-md-component="source"' not in page.read_text("utf-8"), page
    for style in site.rglob("*.css"):
        used = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]*)", style.read_text("utf-8"))
        assert [address for address in used if "//" in address and not address.startswith("data:")] == [], style


def test_every_page_is_built(site: Path) -> None:
    included = ["contributing/guide", "contributing/changelog", "contributing/security"]
    examples = [f"examples/{file.stem}" for file in (PROJECT / "examples").glob("*.py")]
    for page in (*(str(page.relative_to(DOCS).with_suffix("")) for page in SITE), *included, *examples):
        assert (site / f"{page}.html").is_file(), page


def test_every_public_name_is_documented(site: Path) -> None:
    text = "".join(page.read_text("utf-8") for page in (site / "reference" / "python").glob("*.html"))
    names = [f"monograph.{name}" for name in monograph.__all__ if name != "__version__"]
    names += [f"monograph_export.{name}" for name in monograph_export.__all__]
    assert [name for name in names if f'id="{name}"' not in text] == []
    # Methods are there with what they inherit, and nothing private is.
    for method in ("Embedder.encode_iter", "CrossEncoder.rank", "SparseEncoder.decode", "SparseEncoder.close"):
        assert f'id="monograph.{method}"' in text, method
    assert 'id="monograph.Embedder._' not in text


def test_every_command_and_option_is_documented(site: Path) -> None:
    page = html.unescape((site / "reference" / "command-line.html").read_text("utf-8"))
    parser = main._parser(["--help"])
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert {"export", "embed", "bench", "eval", *main.BUILT_IN} <= commands.choices.keys()
    for name, command in commands.choices.items():
        section = page.partition(f'id="monograph-{name}"')[2].partition("<h2")[0]
        own = [action for action in command._actions if not {*action.option_strings} & {"-h", "--debug", "-v"}]
        for action in own:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert f"<code>{option}" in section, (name, option)
            # A help text's placeholders are filled in.
            assert "%(" not in section, name


def test_the_search_finds_pages_by_their_words(site: Path) -> None:
    """The index that the search in the browser loads, from the site itself."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if "fingerprint" in entry["text"]}
    assert "how-to/choose-a-device.html" in found
    assert "reference/python/embedder.html" in found


def test_included_tables_are_there(site: Path) -> None:
    """The table of results stands in README, and two pages show it."""
    for name in ("performance.html", "explanation/comparison.html"):
        page = (site / name).read_text("utf-8")
        assert "<!-- include" not in page, name
        assert "<td>openvino-genai</td>" in page, name


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_private_words_do_not_occur(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", prose(page))
    assert PRIVATE_WORDS.findall(text) == []
