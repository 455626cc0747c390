"""What is done with a batch that a device has no memory for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from monograph.errors import MonographError

Inputs = Mapping[str, NDArray[np.int64]]


class OutOfMemoryError(MonographError):
    """The device has no memory for a batch."""


def in_halves(
    run: Callable[[Inputs], NDArray[np.float32]], inputs: Inputs, on_halving: Callable[[int], object]
) -> NDArray[np.float32]:
    """Run a batch, inputs int64 [b, s] by name, whole or else in halves, and return float32 [b, d].

    ``on_halving`` is called each time that a batch was too large, with its padded tokens.

    Raises:
        OutOfMemoryError: there is no memory for one text.

    """
    rows, width = next(iter(inputs.values())).shape
    try:
        return run(inputs)
    except OutOfMemoryError:
        if rows < 2:
            raise
    # Not in the handler: its traceback holds what the run had.
    on_halving(rows * width)
    half = rows // 2
    parts = ({name: values[places] for name, values in inputs.items()} for places in (slice(half), slice(half, rows)))
    return np.concatenate([in_halves(run, part, on_halving) for part in parts])
