"""Free memory of the GPU, and how close vectors are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def free_memory() -> int:
    """Return the free bytes of the GPU, across all processes; 0 without a GPU."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0


def worst_cosine(vectors: Any, expected: NDArray[np.float32]) -> float:
    """Return the lowest cosine of corresponding rows, float32 [n, d] each."""
    actual = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((actual * expected).sum(axis=1) / norms).min())
