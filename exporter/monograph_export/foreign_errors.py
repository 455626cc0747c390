"""Errors of torch and transformers in one line that names their cause."""

from __future__ import annotations

import re
from collections.abc import Iterator

from monograph.errors import printable

# Colors, and other sequences that a terminal obeys.
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")
# What torch and the C++ library say where an allocation fails; Python's own is a MemoryError.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")
_QUOTED = 300


def plain_line(error: BaseException) -> str:
    """Return the first line of an error's message without control codes, its type where the message is empty.

    A heading that ends in a colon is followed by what it announces.
    """
    lines = str(error).strip().splitlines()
    line = next(iter(lines), "") or type(error).__name__
    if line.endswith(":"):
        line = " ".join([line, *lines[1:2]])
    return printable(_CONTROL_SEQUENCE.sub("", line), _QUOTED)


def innermost(error: BaseException) -> BaseException:
    """Return the error that an error was raised from, and that from which that was, to the first."""
    *_, last = causes(error)
    return last


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one that it was raised from, is that an allocation failed.

    By words that mean nothing else: unlike ``monograph.memory``, this knows of no limit that would make others likely.
    """
    return any(
        isinstance(one, MemoryError) or any(words in str(one).lower() for words in _OUT_OF_MEMORY)
        for one in causes(error)
    )


def causes(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error, the one that it was raised from, and so on; with ``contexts``, or else raised while handling."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__ or (following.__context__ if contexts else None)
