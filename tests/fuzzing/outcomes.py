"""What may come of a case, and what is wrong with the rest."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monograph import MonographError

# Of a case that is as it should be.
RESULT = "result"
ERROR = "error"
PASSING = (RESULT, ERROR)
HANG, TOO_SLOW = "hang", "too slow"
# Of one call of the project.
MAX_SECONDS = 10.0
# Longer than any list of problems that is read.
MAX_MESSAGE = 5000
# Control characters, separators of lines, what changes the direction of writing, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TRACEBACK_LINES = 12


class Violation(Exception):  # noqa: N818
    """Something that a caller must never meet; ``kind`` is a few words that failures are counted by."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case: RESULT, ERROR or the kind of a failure, and what mutations led to it."""

    number: int
    kind: str
    detail: str
    mutations: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it is one of the two that are promised."""
        return self.kind in PASSING

    @property
    def signature(self) -> str:
        """What failures of one cause have in common: no numbers, and of a traceback where it ends."""
        return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"", "", f"{self.kind}: {self.detail}")[:300]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Require that a call of the project ends within the time that is promised.

    Raises:
        Violation: it took longer, whatever came of it.

    """
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        if seconds > MAX_SECONDS:
            raise Violation(TOO_SLOW, f"{what} took {seconds:.1f} s")


def check_message(message: str) -> None:
    """Require one printable line of bounded length.

    Raises:
        Violation: it is another.

    """
    check_printable(message, "message")
    if not message.strip() or len(message) > MAX_MESSAGE:
        raise Violation("length of a message", f"{len(message)} characters: {message[:200]!r}")


def check_printable(line: str, what: str) -> None:
    """Require a line without characters that a terminal obeys.

    Raises:
        Violation: there is one.

    """
    if found := _UNPRINTABLE.search(line):
        start = max(0, found.start() - 60)
        raise Violation(f"control character in a {what}", f"{found.group()!r} in {line[start : found.end() + 60]!r}")


def outcome_of(error: BaseException) -> tuple[str, str]:
    """Return the kind and detail of what a case raised."""
    if isinstance(error, MonographError):
        try:
            check_message(str(error))
        except Violation as violation:
            return violation.kind, violation.detail
        return ERROR, type(error).__name__
    if isinstance(error, Violation):
        return error.kind, error.detail
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "monograph" in Path(frame.filename).parts] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}" if ours else ""
    tail = "".join(traceback.format_exception(error)[-_TRACEBACK_LINES:])
    return f"foreign {type(error).__name__}", f"{place}: {str(error)[:300]!r}\n{tail[-3000:]}"
