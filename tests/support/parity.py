"""What equality with sentence-transformers is held to at float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5


def assert_close(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare vectors or scores: max abs difference <= TOLERANCE x max(1, largest absolute value expected)."""
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= TOLERANCE * max(1.0, float(np.abs(expected).max()))
