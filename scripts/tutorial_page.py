"""A tutorial's page as steps that can be run: its text is the only source of what it does.

- A ``console`` block is commands after ``$ ``, each with the lines that it prints; a line that ends with a backslash is
  continued. Shown output is compared with standard output: ``...`` stands for any part of a line and, alone, for any
  lines. A command without shown output may print anything.
- A block of another language has a title, ``python title="search.py"``, and is a file of that name.
- ``<!-- browser ... -->`` holds what a reader does in a browser, an action a line: ``open URL``, ``wait SELECTOR``,
  ``fill SELECTOR TEXT``, ``press SELECTOR KEY``, ``click SELECTOR``, ``expect SELECTOR TEXT`` (``...`` as above) and
  ``picture NAME.png``. A selector before a text has no spaces.
- ``<!-- terminal NAME.png -->`` is a picture of the console block before it, with the output of the run.

What stands below the heading "Clean up" is also run after a step has failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLEAN_UP = "Clean up"
_ACTIONS = ("open", "wait", "fill", "press", "click", "expect", "picture")
_TWO_MILLION = re.compile(r"\b2(?P<mark>[,_]?)000(?P=mark)000\b")
_PART = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$"
    r"|^<!-- browser\n(?P<browser>.*?)^-->$"
    r"|^<!-- terminal (?P<terminal>\S+\.png) -->$"
    r"|^## (?P<heading>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)


class PageError(ValueError):
    """A part of a page that could not be run; the message begins with its line."""


@dataclass(frozen=True)
class Command:
    """A command line and what the page shows of its output, None if nothing."""

    line: int
    text: str
    shown: str | None


@dataclass(frozen=True)
class Console:
    """The commands of a block."""

    line: int
    commands: tuple[Command, ...]


@dataclass(frozen=True)
class SavedFile:
    """A file that the reader saves."""

    line: int
    name: str
    content: str


@dataclass(frozen=True)
class Browsing:
    """What is done in a browser: pairs of an action and its arguments."""

    line: int
    actions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TerminalPicture:
    """A picture of the console block before it."""

    line: int
    name: str


Step = Console | SavedFile | Browsing | TerminalPicture


@dataclass(frozen=True)
class Tutorial:
    """The steps of a page, and those that clean up after them."""

    name: str
    steps: tuple[Step, ...]
    clean_up: tuple[Step, ...]

    def blocks(self) -> list[Console | SavedFile]:
        """Return the steps that are fenced blocks, in order."""
        return [step for step in (*self.steps, *self.clean_up) if isinstance(step, (Console, SavedFile))]

    def pictures(self) -> list[str]:
        """Return the names of the pictures that the page makes."""
        names = [step.name for step in self.steps if isinstance(step, TerminalPicture)]
        browsing = [step for step in self.steps if isinstance(step, Browsing)]
        return names + [value for step in browsing for action, value in step.actions if action == "picture"]


def read_tutorial(file: Path, rows: int | None = None) -> Tutorial:
    """Return a page's steps; with ``rows``, the number 2,000,000 is replaced by it in every step.

    Raises:
        PageError: a block is neither commands nor a file, or an action is unknown.

    """
    text = file.read_text("utf-8")
    if rows is not None:
        text = _TWO_MILLION.sub(lambda match: f"{rows:,}".replace(",", match["mark"]), text)
    parts: tuple[list[Step], list[Step]] = ([], [])
    place = 0
    for match in _PART.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["heading"] is not None:
            place = int(match["heading"] == CLEAN_UP)
        else:
            parts[place].append(_step(line, match))
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    blocks = sum(isinstance(step, (Console, SavedFile)) for part in parts for step in part)
    if fences != 2 * blocks:
        raise PageError(f"{file.name}: {fences} fences make {blocks} blocks: each begins and ends at a line's start")
    return Tutorial(file.stem, *map(tuple, parts))


def _step(line: int, match: re.Match[str]) -> Step:
    if match["terminal"] is not None:
        return TerminalPicture(line, match["terminal"])
    if match["browser"] is not None:
        return Browsing(line, tuple(_actions(line, match["browser"])))
    if match["language"] == "console":
        return Console(line, tuple(_commands(line, match["code"])))
    if match["title"] is None:
        raise PageError(f'line {line}: a block of {match["language"] or "no language"} needs title="FILE" to be run')
    return SavedFile(line, match["title"], match["code"])


def _actions(line: int, text: str) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(text.splitlines(), line + 1):
        action, _, value = row.partition(" ")
        if action not in _ACTIONS:
            raise PageError(f"line {number}: {action} is not one of {', '.join(_ACTIONS)}")
        yield action, value


def _commands(line: int, code: str) -> Iterator[Command]:
    rows = list(enumerate(code.splitlines(), line + 1))
    if not rows or not rows[0][1].startswith("$ "):
        raise PageError(f"line {line}: a console block begins with a command, after '$ '")
    while rows:
        number, text = rows.pop(0)
        text = text.removeprefix("$ ")
        while text.endswith("\\") and rows:
            text += "\n" + rows.pop(0)[1]
        shown = []
        while rows and not rows[0][1].startswith("$ "):
            shown.append(rows.pop(0)[1])
        yield Command(number, text, "\n".join(shown) or None)


def difference(shown: str, printed: str) -> str | None:
    """Return None if an output is as shown, else what differs."""
    lines = [re.escape(line.rstrip()).replace(re.escape("..."), ".*") for line in shown.splitlines()]
    pattern = "".join(r"(?:.*\n)*" if line == ".*" else f"{line}[ ]*\n" for line in lines)
    text = printed if printed.endswith("\n") or not printed else f"{printed}\n"
    return None if re.fullmatch(pattern, text) else f"shown on the page:\n{shown}\nprinted:\n{printed}"
