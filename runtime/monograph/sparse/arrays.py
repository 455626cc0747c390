"""Sparse vectors as SciPy arrays: compare, count, intersect. ``encode_active`` works without SciPy, an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph import similarity as similarities
from monograph import tensors
from monograph.errors import InputError, MonographError, first_line
from monograph.sparse.rows import SparseRows
from monograph.sparse.torch_tensors import to_scipy

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float32]
# Values of a block of rows that is made dense: 32 MB.
_DENSE_VALUES = 8_388_608
# The first with arrays of one axis.
_MIN_SCIPY = (1, 15)


def import_scipy_sparse() -> Any:
    """Import scipy.sparse, which is an extra; raise ``MonographError`` if SciPy is not installed, or too old."""
    try:
        import scipy.sparse
    except ModuleNotFoundError as error:
        raise MonographError(
            "sparse arrays need SciPy: pip install 'monograph[sparse]', or take encode_active, which gives the columns "
            "and values of each vector without it"
        ) from error
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < _MIN_SCIPY:
        needed = ".".join(map(str, _MIN_SCIPY))
        raise MonographError(
            f"sparse arrays need SciPy {needed}, found {scipy.__version__}: pip install --upgrade 'monograph[sparse]'"
        )
    return scipy.sparse


def to_csr(rows: SparseRows, dimension: int) -> csr_array:
    """Return rows as a csr_array, float32 [n, dimension]; raise ``MonographError`` if SciPy is not installed."""
    return import_scipy_sparse().csr_array((rows.values, rows.columns, rows.starts), shape=(len(rows), dimension))


def check_rows(embeddings: Any, dimension: int | None = None) -> csr_array:
    """Return sparse or dense vectors, [n, d] or [d], as a csr_array float32 [n, d]; None for any d.

    Raises:
        InputError: they are no array of numbers of one or two dimensions, or have another d.
        MonographError: SciPy is not installed.

    """
    sparse = import_scipy_sparse()
    if tensors.is_sparse(embeddings):
        try:
            array = to_scipy(embeddings, sparse)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"vectors must be sparse arrays or tensors of one d: {first_line(error)}") from error
    else:
        array = similarities.check_vectors(embeddings)
    if array.ndim not in (1, 2):
        raise InputError(f"vectors must have one or two dimensions, got {array.ndim}")
    if dimension not in (None, array.shape[-1]):
        raise InputError(f"vectors of {array.shape[-1]} dimensions are not this model's, which has {dimension}")
    if array.dtype.kind not in "fiub":
        raise InputError(f"vectors must be real numbers, and these are of the type {array.dtype}")
    rows = sparse.csr_array(array.reshape(1, -1) if array.ndim == 1 else array, dtype=np.float32)
    if not rows.has_canonical_format:
        # A copy, because a float32 csr_array is the caller's own.
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def is_one_row(embeddings: Any) -> bool:
    """Return whether vectors are one, [d], and not several, [n, d]: an array, a tensor or a list."""
    if isinstance(embeddings, (list, tuple)):
        return not len(embeddings) or np.ndim(embeddings[0]) == 0
    return int(np.ndim(embeddings)) == 1


def similarity(function: str, first: Any, second: Any) -> Floats:
    """Return the similarity of every row of ``first`` [n, d] with every row of ``second`` [m, d], float32 [n, m].

    Raises:
        InputError: the shapes do not fit, or ``function`` is not known.

    """
    a, b = check_rows(first), check_rows(second)
    similarities.check_dimensions(a, b)
    if function in _PRODUCTS:
        scale = _PRODUCTS[function]
        return np.asarray((scale(a) @ scale(b).T).toarray(), dtype=np.float32)
    result = np.empty((a.shape[0], b.shape[0]), dtype=np.float32)
    for rows in _blocks(a):
        dense = a[rows].toarray()
        for columns in _blocks(b):
            result[rows, columns] = similarities.similarity(function, dense, b[columns].toarray())
    return result


def similarity_pairwise(function: str, first: Any, second: Any) -> Floats:
    """Return the similarity of row i of ``first`` with row i of ``second``, both [n, d], float32 [n].

    Of two vectors [d] the result is one number, [].

    Raises:
        InputError: the shapes differ, or ``function`` is not known.

    """
    a, b = check_rows(first), check_rows(second)
    similarities.check_shapes(a, b)
    if function in _PRODUCTS:
        scale = _PRODUCTS[function]
        result = np.asarray(scale(a).multiply(scale(b)).sum(axis=1), dtype=np.float32)
    else:
        result = np.empty(a.shape[0], dtype=np.float32)
        for rows in _blocks(a):
            result[rows] = similarities.similarity_pairwise(function, a[rows].toarray(), b[rows].toarray())
    return np.asarray(result[0]) if is_one_row(first) and is_one_row(second) else result


def intersection(first: Any, second: Any) -> csr_array:
    """Return the products of one vector's values [d] with each of [n, d], where they are above 0.

    Returns:
        csr_array float32 of the shape of ``second``.

    Raises:
        InputError: ``first`` is more than one vector, or the dimensions differ.

    """
    a, b = check_rows(first), check_rows(second)
    if a.shape[0] != 1 or a.shape[1] != b.shape[1]:
        raise InputError(f"one vector meets vectors of its dimensions, got {a.shape} and {b.shape}")
    products = b.multiply(a).tocsr()
    products.data[products.data < 0] = 0
    products.eliminate_zeros()
    return products[0].tocsr() if is_one_row(second) else products


def sparsity(embeddings: Any) -> dict[str, float]:
    """Return the mean number of active dimensions of a vector, and the mean share of those that are 0.

    The keys are those of ``SparseEncoder.sparsity`` of sentence-transformers.

    Raises:
        InputError: these are no vectors.

    """
    rows = check_rows(embeddings)
    if 0 in rows.shape:
        return {"active_dims": 0.0, "sparsity_ratio": 1.0}
    active = rows.count_nonzero() / rows.shape[0]
    return {"active_dims": float(active), "sparsity_ratio": float(1 - active / rows.shape[1])}


def _blocks(rows: csr_array) -> Iterator[slice]:
    step = max(1, _DENSE_VALUES // max(1, int(rows.shape[1])))
    return (slice(start, start + step) for start in range(0, rows.shape[0], step))


def normalize(rows: csr_array) -> csr_array:
    """Return the rows [n, d] at unit length; a row of zeros stays zero."""
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    scaled = rows.copy()
    scaled.data /= np.repeat(np.maximum(norms, similarities.MIN_NORM), np.diff(rows.indptr))
    return scaled


_PRODUCTS: Mapping[str, Callable[[csr_array], csr_array]] = {"dot": lambda rows: rows, "cosine": normalize}
