"""How fast the machine itself is at the moment: shared machines have slow phases, and two runs meet others."""

from __future__ import annotations

import time

import numpy as np

_SIZE = 1024
_PASSES = 3
_VALUES = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)


def yardstick_seconds() -> float:
    """Return the seconds of the fastest of a few matrix products that never change."""
    times = []
    for _ in range(_PASSES):
        begin = time.perf_counter()
        _VALUES @ _VALUES
        times.append(time.perf_counter() - begin)
    return min(times)
