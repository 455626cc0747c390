"""The four similarity functions of Sentence Transformers, for all pairs and pairwise.

Each takes float arrays [n, d] and [m, d] (or [d] for one vector) and computes in float32. Distances are negated, so
that larger is always more similar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.errors import InputError

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
Floats = NDArray[np.float32]
_CHUNK_BYTES = 32 * 1024 * 1024
# The epsilon of torch.nn.functional.normalize.
MIN_NORM = 1e-12


def similarity(function: str, first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the similarity of every row of ``first`` [n, d] with every row of ``second`` [m, d], [n, m].

    Raises:
        InputError: the shapes do not fit, or ``function`` is not known.

    """
    a, b = _check_vectors(first), _check_vectors(second)
    check_dimensions(a, b)
    return _look_up(_ALL_PAIRS, function)(a, b)


def similarity_pairwise(function: str, first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the similarity of row i of ``first`` [n, d] with row i of ``second`` [n, d], [n].

    Raises:
        InputError: the shapes differ, or ``function`` is not known.

    """
    a, b = _check_vectors(first), _check_vectors(second)
    check_shapes(a, b)
    return _look_up(_PAIRWISE, function)(a, b)


def check_dimensions(a: Any, b: Any) -> None:
    """Raise ``InputError`` unless two arrays [n, d] have the same d."""
    if a.shape[1] != b.shape[1]:
        raise InputError(f"vectors of {a.shape[1]} and {b.shape[1]} dimensions cannot be compared")


def check_shapes(a: Any, b: Any) -> None:
    """Raise ``InputError`` unless two arrays have the same shape."""
    if a.shape != b.shape:
        raise InputError(f"pairwise similarity needs equal shapes, got {a.shape} and {b.shape}")


def normalize(vectors: Floats) -> Floats:
    """Return the rows [n, d] at unit length; a row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, MIN_NORM), dtype=np.float32)


def _check_vectors(vectors: ArrayLike) -> Floats:
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"vectors must be an array of numbers [n, d]: {error}") from error
    if array.ndim == 1:
        array = array[np.newaxis, :]
    if array.ndim != 2:
        raise InputError(f"vectors must have one or two dimensions, got {array.ndim}")
    return array


def _look_up(functions: Mapping[str, Callable[[Floats, Floats], Floats]], name: str) -> Callable[..., Floats]:
    if name not in functions:
        raise InputError(f"similarity function {name!r} is not one of {', '.join(functions)}")
    return functions[name]


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(a @ b.T, dtype=np.float32)


def _dot_pairwise(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("nd,nd->n", a, b), dtype=np.float32)


def _manhattan(difference: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(-np.abs(difference).sum(axis=-1))


def _euclidean(difference: NDArray[Any]) -> NDArray[Any]:
    # Not |a|^2 + |b|^2 - 2ab, which cancels for vectors close together.
    return np.asarray(-np.sqrt(np.square(difference).sum(axis=-1)))


def _by_difference(measure: Callable[[NDArray[Any]], NDArray[Any]], a: Floats, b: Floats) -> Floats:
    result = np.empty((len(a), len(b)), dtype=np.float32)
    rows = max(1, _CHUNK_BYTES // max(1, b.nbytes))
    for start in range(0, len(a), rows):
        block = slice(start, start + rows)
        result[block] = measure(a[block, np.newaxis, :] - b[np.newaxis, :, :])
    return result


_ALL_PAIRS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": lambda a, b: _dot(normalize(a), normalize(b)),
    "dot": _dot,
    "euclidean": lambda a, b: _by_difference(_euclidean, a, b),
    "manhattan": lambda a, b: _by_difference(_manhattan, a, b),
}
_PAIRWISE: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": lambda a, b: _dot_pairwise(normalize(a), normalize(b)),
    "dot": _dot_pairwise,
    "euclidean": lambda a, b: np.asarray(_euclidean(a - b), dtype=np.float32),
    "manhattan": lambda a, b: np.asarray(_manhattan(a - b), dtype=np.float32),
}
