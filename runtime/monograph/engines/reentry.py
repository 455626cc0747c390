"""One call at a time on each thread: a signal handler or finalizer that interrupts a call makes no other inside it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from monograph.errors import MonographError

_T = TypeVar("_T")
# The frame below which a thread runs something; one that was interrupted as it returned leaves its frame here.
_entered: dict[int, FrameType] = {}


def run_non_reentrant(function: Callable[..., _T], *arguments: Any) -> _T:
    """Return ``function(*arguments)``, which holds locks or is waited for by other threads.

    Raises:
        MonographError: this thread is inside such a function already. What it holds there would never be free.

    """
    thread = threading.get_ident()
    entered = _entered.get(thread)
    if entered is not None and _is_running(entered):
        raise MonographError(
            "this call was made by a signal handler or a finalizer, inside another call of the same thread that it "
            "interrupted: let the handler set a flag, and call when that other one has returned"
        )
    try:
        # Not through a variable, which would be a cycle: the frame would hold itself.
        _entered[thread] = sys._getframe()
        return function(*arguments)
    finally:
        _entered.pop(thread, None)


def _is_running(frame: FrameType) -> bool:
    """Return whether a frame is one of the callers of this function."""
    caller: FrameType | None = sys._getframe()
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None
