"""Ctrl-C and a request to end (SIGTERM) both end a command in order: what was begun is put away first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# What a shell reports of a process that a signal ended.
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came. It ends a command the way Ctrl-C does."""


@contextmanager
def heeding_termination() -> Iterator[None]:
    """Raise ``Terminated`` where SIGTERM would end the process on the spot, with files half written."""
    # Only the main thread may set a handler, and one that an application has set is not ours to replace.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise Terminated
