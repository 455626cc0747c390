"""How fast the machine reads memory.

Each thread searches its own part of one int8 array for the maximum: NumPy reads every byte once, with vector
instructions that are faster than memory, writes nothing, and lets the other threads run meanwhile. The array is
twice as large as the last-level cache, so that little of it is still there when a pass begins again.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

_PASSES = 15
_MIN_BYTES = 1 << 28
# Of the memory that is free, so that measuring never swaps.
_MAX_SHARE = 4
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def memory_bandwidth(threads: int) -> float | None:
    """Return the bytes/s of the fastest pass of all threads together; None where too little memory is free.

    With less than twice the last-level cache, the rate would be that of the cache.
    """
    size = max(_MIN_BYTES, 2 * last_level_cache_bytes())
    if size > psutil.virtual_memory().available // _MAX_SHARE:
        return None
    # Written, so that each page is one of its own.
    parts = np.array_split(np.ones(size, np.int8), threads)
    return size / min(_seconds(parts) for _ in range(_PASSES))


def last_level_cache_bytes() -> int:
    """Return the size of the largest cache that the system tells of, 0 where it tells of none."""
    return max((_bytes(path) for path in _CACHES.glob("index*/size")), default=0)


def _bytes(path: Path) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)\s*", path.read_text("ascii"))
    return int(match[1]) * _UNITS.get(match[2], 1) if match else 0


def _seconds(parts: list[NDArray[np.int8]]) -> float:
    """Return the seconds from the start of the first thread to the end of the last one."""
    times: list[tuple[float, float]] = []
    # A pool would give two parts to one thread.
    together = threading.Barrier(len(parts))

    def read(part: NDArray[np.int8]) -> None:
        together.wait()
        begin = time.perf_counter()
        part.max()
        times.append((begin, time.perf_counter()))

    readers = [threading.Thread(target=read, args=(part,)) for part in parts]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return max(end for _, end in times) - min(begin for begin, _ in times)
