"""The widths that batches are padded to, for an engine that keeps memory for every shape it has seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# (step, up to): fine where texts are short and a few tokens are much of them, coarse where they are not.
STEPS = ((2, 32), (4, 64), (8, 256), (32, 2048), (256, 1 << 16))


def widths_to(longest: int, least_step: int = 1) -> NDArray[np.int64]:
    """Return the widths for texts of up to ``longest`` tokens, ascending, int64 [k]; the last is ``longest``.

    The others are multiples of ``least_step``, a power of two of at most 32.
    """
    start, parts = 0, []
    for finest, end in STEPS:
        step = max(finest, least_step)
        parts.append(np.arange(start + step, end + 1, step, dtype=np.int64))
        start = end
    widths = np.concatenate(parts)
    return np.append(widths[widths < longest], longest)


def rounded_up(lengths: NDArray[np.int64], widths: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return for each length (int64 [n]) the next width, itself where it is beyond them or ``widths`` is None."""
    if widths is None:
        return lengths
    positions = np.searchsorted(widths, lengths)
    return np.where(positions < len(widths), widths[np.minimum(positions, len(widths) - 1)], lengths)
