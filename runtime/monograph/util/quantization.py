"""Vectors at a lower precision, and back."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.errors import InputError
from monograph.similarity import check_vectors
from monograph.tasks.embedding import PRECISIONS, SCALAR_PRECISIONS, Precision, check_ranges, quantize
from monograph.util.similarity import Vectors

logger = logging.getLogger(__name__)
# Fewer give ranges that other vectors often leave.
_FEW = 100


def quantize_embeddings(
    embeddings: Vectors,
    precision: Precision,
    ranges: ArrayLike | None = None,
    calibration_embeddings: Vectors | None = None,
) -> NDArray[Any]:
    """Return vectors at a lower precision.

    Args:
        embeddings: Vectors of floats, [n, d] or [d]: an array, a list or a tensor.
        precision: "float32", "int8", "uint8", "binary" or "ubinary" (one bit per dimension).
        ranges: Smallest and largest value of each dimension, [2, d], for "int8" and "uint8".
        calibration_embeddings: Vectors [m, d] to take the ranges from; None, without ``ranges``, for ``embeddings``
            themselves.

    Returns:
        float32, int8 or uint8 [n, d]; [n, ceil(d / 8)] as int8 for "binary", as uint8 for "ubinary".

    Raises:
        InputError: an argument is not valid, or ranges cannot be taken from a single vector.

    Examples:
        >>> from monograph.util import quantize_embeddings
        >>> quantize_embeddings([[0.5, -0.5, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]], "ubinary").tolist()
        [[160]]

    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    vectors = check_vectors(embeddings)
    if vectors.dtype.kind != "f" and vectors.size:
        raise InputError(f"vectors to quantize must be floats, got {vectors.dtype}")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision not in SCALAR_PRECISIONS:
        return quantize(vectors, precision, None)
    if len(vectors) == 0:
        return vectors.astype(precision)
    return quantize(vectors, precision, find_ranges(vectors, precision, ranges, calibration_embeddings))


def find_ranges(
    vectors: NDArray[Any], precision: str, ranges: ArrayLike | None, calibration_embeddings: Vectors | None
) -> NDArray[np.float32]:
    """Return the smallest and largest value of each dimension, float32 [2, d]: those given, or of vectors [n, d].

    Raises:
        InputError: there is only one vector, or what was given has not the dimensions of ``vectors``.

    """
    dimension = vectors.shape[-1]
    if ranges is not None:
        return check_ranges(ranges, dimension)
    if calibration_embeddings is not None:
        vectors = check_vectors(calibration_embeddings, "calibration_embeddings")
        if vectors.ndim != 2 or len(vectors) == 0:
            raise InputError(f"calibration_embeddings must be vectors [m, {dimension}], got the shape {vectors.shape}")
    elif vectors.ndim == 1 or len(vectors) == 1:
        raise InputError(
            f"precision {precision!r} needs the range of each dimension, and one vector has none: give ranges=, or "
            "calibration_embeddings= of texts like yours"
        )
    elif len(vectors) < _FEW:
        logger.warning(
            "the ranges for %s are taken from %d vectors: give ranges=, or more calibration_embeddings=",
            precision,
            len(vectors),
        )
    return check_ranges(np.stack([vectors.min(axis=0), vectors.max(axis=0)]), dimension)


def dequantize(levels: NDArray[Any], precision: str, ranges: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values that "int8" or "uint8" levels [..., d] stand for, in ranges [2, d]."""
    steps = (ranges[1] - ranges[0]) / 255
    steps = np.where(steps == 0, 1, steps)
    offset = 128 if precision == "int8" else 0
    return np.asarray((levels.astype(np.float64) + offset) * steps + ranges[0], np.float64)
