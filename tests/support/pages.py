"""The pages of the documentation, and the blocks of code that stand in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
# Those that the site includes stand in the project's folder.
PAGES = [*(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *SITE]
FORMAT_PAGE, ERRORS_PAGE = DOCS / "reference" / "bundle-format.md", DOCS / "reference" / "errors.md"
FRAMEWORKS_PAGE = DOCS / "how-to" / "frameworks.md"
# These are run by scripts/tutorials, as a whole each; tests/docs/test_tutorials.py has what is tested of them.
TUTORIALS = sorted({*(DOCS / "tutorials").glob("*.md")} - {DOCS / "tutorials" / "index.md"})
# What follows the language is the title of a block.
_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Return the name of a page in the output of tests."""
    return str(page.relative_to(PROJECT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [text for kind, text in _FENCE.findall(page.read_text("utf-8")) if kind == language]


def prose(page: Path) -> str:
    """Return a page's text without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def command_lines(page: Path) -> list[str]:
    """Return the command lines of a page's console blocks; output and comments are left out."""
    text = "\n".join(blocks(page, "console"))
    return [line[2:] for line in re.sub(r"\\\n", " ", text).splitlines() if line.startswith("$ ")]


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line: pipes are taken apart, redirections left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skipped = False
    for word in lexer:
        if set(word) <= set("<>"):
            skipped = True
        elif set(word) <= set("|&;"):
            # A line may end with one.
            if words:
                yield words
            words = []
        elif skipped:
            skipped = False
        else:
            words.append(word)
    if words:
        yield words
