"""Tell what the handler of a caller's signal raised from what was raised by the code that it interrupted.

A handler ends a call that takes too long by an exception of any class, a built-in one too.
"""

from __future__ import annotations

import functools
import signal
from types import CodeType
from typing import Any


def passed_a_signal_handler(error: BaseException) -> bool:
    """Return whether an exception was raised in a function that is now the handler of a signal, or below one."""
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that calling a signal handler runs, None for one that is no Python function."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(handler, "__code__", None)
    if code is None and callable(handler):
        code = getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
