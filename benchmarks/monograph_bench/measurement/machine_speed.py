"""How fast the machine itself is at the moment: shared machines have slow phases, and two runs meet others."""

from __future__ import annotations

import hashlib
import time

_PASSES = 3
_BYTES = bytes(1 << 24)


def machine_speed_seconds() -> float:
    """Return the seconds of the fastest of a few hashes of the same 16 MB.

    On one thread, which is gone when it is done: a product of matrices would leave threads that spin beside what is
    measured next, and would be another one with another release of NumPy.
    """
    times = []
    for _ in range(_PASSES):
        begin = time.perf_counter()
        hashlib.sha256(_BYTES).digest()
        times.append(time.perf_counter() - begin)
    return min(times)
