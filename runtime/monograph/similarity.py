"""The four similarity functions of Sentence Transformers, for all pairs and pairwise.

Each takes dense vectors [n, d] and [m, d] (or [d] for one vector) and computes in float32. Distances are negated, so
that larger is always more similar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.errors import InputError, first_line
from monograph.sparse.rows import is_active

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
Floats = NDArray[np.float32]
_CHUNK_BYTES = 32 * 1024 * 1024
# The epsilon of torch.nn.functional.normalize.
MIN_NORM = 1e-12


def similarity(function: str, first: Any, second: Any) -> Floats:
    """Return the similarity of every row of ``first`` [n, d] with every row of ``second`` [m, d], float32 [n, m].

    Raises:
        InputError: these are not dense vectors, the shapes do not fit, or ``function`` is not known.

    """
    a, b = check_rows(first), check_rows(second)
    check_dimensions(a, b)
    return _look_up(_ALL_PAIRS, function)(a, b)


def similarity_pairwise(function: str, first: Any, second: Any) -> Floats:
    """Return the similarity of row i of ``first`` [n, d] with row i of ``second`` [n, d], float32 [n].

    One vector, [d] or [1, d], is compared with each of the others; of two vectors [d] the result is one number, [].

    Raises:
        InputError: these are not dense vectors, the shapes differ, or ``function`` is not known.

    """
    vectors = check_vectors(first), check_vectors(second)
    a, b = map(check_rows, vectors)
    check_dimensions(a, b)
    if len(a) != 1 and len(b) != 1:
        check_shapes(a, b)
    result = _look_up(_PAIRWISE, function)(a, b)
    return np.asarray(result[0]) if vectors[0].ndim == vectors[1].ndim == 1 else result


def check_dimensions(a: Any, b: Any) -> None:
    """Raise ``InputError`` unless two arrays [n, d] have the same d."""
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"vectors of {a.shape[1]} and {b.shape[1]} dimensions cannot be compared: they are of different models, or "
            "truncated to different lengths"
        )


def check_shapes(a: Any, b: Any) -> None:
    """Raise ``InputError`` unless two arrays have the same shape."""
    if a.shape != b.shape:
        raise InputError(f"pairwise similarity needs equal shapes, got {a.shape} and {b.shape}")


def normalize(vectors: Floats) -> Floats:
    """Return the rows [n, d] at unit length; a row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, MIN_NORM), dtype=np.float32)


def check_vectors(vectors: Any, name: str = "vectors") -> NDArray[Any]:
    """Return dense vectors, [n, d] or [d], as an array of real numbers of the type that they have.

    They may be an array, lists, a torch tensor, or a list of arrays or tensors; of tensors of less than 32 bits the
    type is float32. ``name`` is what an error calls them.

    Raises:
        InputError: they are sparse, no numbers, or have other than one or two dimensions.

    """
    if tensors.is_sparse(vectors):
        raise InputError(f"{name} must be dense, and these are sparse: convert them by toarray() or to_dense()")
    if is_active(vectors):
        raise InputError(
            f"{name} must be arrays, and these are SparseVector: give the csr_array that encode returns, or "
            "sparse_array() of what encode_all returns"
        )
    if isinstance(vectors, (list, tuple)) and vectors and getattr(vectors[0], "ndim", 1) == 2:
        raise InputError(
            f"{name} must be one for each text, and these are several, as of its tokens: similarity of a "
            "MultiVectorEncoder compares these"
        )
    try:
        array = np.asarray(tensors.to_array(vectors))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be an array of numbers [n, d]: {first_line(error)}") from error
    if array.dtype.kind == "U":
        raise InputError(f"{name} must be an array of real numbers [n, d], and these are texts: encode them first")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be an array of real numbers [n, d], and these are of the type {array.dtype}")
    if array.ndim not in (1, 2):
        raise InputError(f"{name} must have one or two dimensions, got {array.ndim}")
    return array


def check_rows(vectors: Any, name: str = "vectors") -> Floats:
    """``check_vectors``, as float32 [n, d]."""
    array = check_vectors(vectors, name)
    with np.errstate(over="ignore"):
        return np.atleast_2d(array.astype(np.float32, copy=False))


def _look_up(functions: Mapping[str, Callable[[Floats, Floats], Floats]], name: str) -> Callable[..., Floats]:
    if name not in functions:
        raise InputError(f"similarity function {name!r} is not one of {', '.join(functions)}")
    return functions[name]


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(a @ b.T, dtype=np.float32)


def _dot_pairwise(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("...d,...d->...", a, b), dtype=np.float32)


def _manhattan(difference: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(-np.abs(difference).sum(axis=-1))


def _euclidean(difference: NDArray[Any]) -> NDArray[Any]:
    # Not |a|^2 + |b|^2 - 2ab, which cancels for vectors close together.
    return np.asarray(-np.sqrt(np.square(difference).sum(axis=-1)))


def _by_difference(measure: Callable[[NDArray[Any]], NDArray[Any]], a: Floats, b: Floats) -> Floats:
    result = np.empty((len(a), len(b)), dtype=np.float32)
    vectors = max(1, _CHUNK_BYTES // max(1, a.itemsize * a.shape[1]))
    columns = max(1, min(vectors, len(b)))
    rows = max(1, vectors // columns)
    for start in range(0, len(a), rows):
        of_a = slice(start, start + rows)
        for first in range(0, len(b), columns):
            of_b = slice(first, first + columns)
            result[of_a, of_b] = measure(a[of_a, np.newaxis, :] - b[np.newaxis, of_b, :])
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
