"""Whether this process was forked: a fork copies native packages without their threads, and waits for these forever."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

_PROC = Path("/proc")
# Of the flags in /proc/PID/stat: forked, and has not begun a program of its own.
_FORKED_WITHOUT_EXEC = 0x40
_FLAGS = 6


def is_inherited(package: str) -> bool:
    """Return whether an imported package was loaded before this process was forked; False where that is not known.

    Whoever loaded it may have used it: its threads are then missing here.
    """
    module = sys.modules.get(package)
    if module is None or module.__file__ is None:
        return False
    return _was_loaded_by_parent(str(Path(module.__file__).parent), os.getpid())


@functools.cache
def _was_loaded_by_parent(folder: str, process: int) -> bool:
    """Return whether the parent has mapped a library of ``folder``, and ``process``, this one, is a copy of it."""
    try:
        # The second field, the program's name in brackets, may hold spaces and brackets.
        fields = (
            (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        if not int(fields[_FLAGS]) & _FORKED_WITHOUT_EXEC:
            return False
        mapped = (_PROC / str(os.getppid()) / "maps").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError, IndexError):
        # Not Linux, or the parent has ended.
        return False
    return f"{folder}{os.sep}" in mapped
