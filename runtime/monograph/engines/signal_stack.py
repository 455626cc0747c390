"""Room for several signals at once on the stack that signals are handled on.

Where a CPU has AMX, OpenVINO's CPU plugin gives the thread that loads it a signal stack for one signal and little more,
since the state that Linux saves for each is 12 KB there instead of 3. Python's handlers run on that stack, and a second
signal in the same microseconds ends the process ("overflowed sigaltstack" in the kernel's log).
"""

from __future__ import annotations

import ctypes
import sys

_SS_DISABLE = 2
# One frame for each of the 64 signals; memory is taken for those that are used.
_BYTES = 1 << 20


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2) on Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def enlarge_signal_stack() -> None:
    """Replace this thread's signal stack by one of 1 MiB, if it has one and that is smaller.

    The new one is never freed: a signal may come until the process is gone.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    current = _Stack()
    if libc.sigaltstack(None, ctypes.byref(current)) or current.flags & _SS_DISABLE or current.size >= _BYTES:
        return
    if memory := libc.malloc(_BYTES):
        libc.sigaltstack(ctypes.byref(_Stack(memory, 0, _BYTES)), None)
