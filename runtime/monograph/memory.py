"""What this process may still allocate, so that too little memory is one error instead of what native code makes of it.

Out of memory, native libraries print, abort, or wait for a thread that could not start. So a step that is sure to fail
is refused before it begins. Estimates are lower bounds: what is let through may still fail, and says so itself.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

from monograph.cpu import available_cpus, cgroup_folders
from monograph.errors import DeviceError, first_line
from monograph.signal_handlers import passed_a_signal_handler

_MB = 1_000_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# NumPy's OpenBLAS takes this at its import for each of its threads, the stack of the thread included.
_NUMPY_BYTES, _NUMPY_BYTES_PER_THREAD = 10 * _MB, 41 * _MB
_NUMPY_MAPPED_BYTES = 50 * _MB
_ADDRESS_SPACE = "RLIMIT_AS"
_OPENBLAS_THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_MAX_OPENBLAS_THREADS = 64
# What libraries say where they could not allocate memory or start a thread.
_SIGNS = ("alloc", "memory", "resource temporarily unavailable", "start new thread", "pthread")


def check_memory(needed: int, purpose: str, mapped: int = 0) -> None:
    """Raise ``DeviceError`` if this process may not allocate ``needed`` more bytes for ``purpose``.

    ``mapped`` are those that it maps or reserves beside, which only a limit of the address space counts. Without limits
    the check takes some microseconds.
    """
    for name, limit, used in _limits():
        total = needed + mapped if name == _ADDRESS_SPACE else needed
        if limit - used < total:
            raise DeviceError(
                f"not enough memory to {purpose}: that needs about {_in_mb(total)} beside the {_in_mb(used)} in use, "
                f"and the limit is {_in_mb(limit)} ({name}): raise it"
            )


def check_memory_of_numpy() -> None:
    """Raise ``DeviceError`` if the limit is too low for the import of NumPy, which would end the process."""
    if "numpy" not in sys.modules and _has_limit():
        threads = min(_openblas_threads(), _MAX_OPENBLAS_THREADS)
        check_memory(_NUMPY_BYTES + threads * _NUMPY_BYTES_PER_THREAD, "import NumPy", _NUMPY_MAPPED_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, or a thread, could not be had, and this process has a limit."""
    if isinstance(error, MemoryError):
        return not passed_a_signal_handler(error)
    message = str(error).lower()
    return _has_limit() and any(sign in message for sign in _SIGNS)


def out_of_memory(error: BaseException, needed: int, purpose: str) -> DeviceError:
    """Return the error of a step that failed for lack of memory; it needs about ``needed`` bytes, 0 for unknown."""
    limits = [f"the limit is {_in_mb(limit)} ({name}), {_in_mb(used)} are in use" for name, limit, used in _limits()]
    what = "; ".join(limits) or "the machine has no more"
    return DeviceError(
        f"not enough memory to {purpose} ({first_line(error)}): "
        f"{f'that needs about {_in_mb(needed)}, and ' if needed else ''}{what}: raise the limit, or free memory"
    )


def _in_mb(size: int) -> str:
    return f"{max(size, 0) / _MB:,.0f} MB"


def _has_limit() -> bool:
    return any(True for _ in _limit_values())


def _limits() -> list[tuple[str, int, int]]:
    """Return the limits of this process: name, bytes, and how many of them are in use."""
    values = list(_limit_values())
    if not values:
        return []
    try:
        fields = Path("/proc/self/statm").read_text("ascii").split()
    except OSError:
        return []
    # In pages: address space, resident, shared, text, 0, data and stack.
    size, resident, shared, data = (int(fields[place]) * _PAGE_BYTES for place in (0, 1, 2, 5))
    used = {_ADDRESS_SPACE: size, "RLIMIT_DATA": data, "memory.max": resident - shared}
    return [(name, limit, used[name]) for name, limit in values]


def _limit_values() -> list[tuple[str, int]]:
    values = []
    try:
        # Not on Windows.
        import resource
    except ImportError:
        return []
    for name in ("RLIMIT_DATA", _ADDRESS_SPACE):
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            values.append((name, soft))
    if (limit := _cgroup_limit()) is not None:
        values.append(("memory.max", limit))
    return values


@functools.cache
def _cgroup_limit() -> int | None:
    """Return the lowest memory limit of the cgroup (version 1 or 2) and its ancestors, None where unlimited."""
    found = []
    for folder in cgroup_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):
                continue
    # Version 1 writes a number beyond any machine for no limit.
    return min((limit for limit in found if limit < 2**60), default=None)


def _openblas_threads() -> int:
    for variable in _OPENBLAS_THREADS:
        try:
            if (threads := int(os.environ.get(variable, ""))) > 0:
                return min(threads, available_cpus())
        except ValueError:
            continue
    return available_cpus()
