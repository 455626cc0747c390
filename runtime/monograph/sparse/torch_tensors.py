"""Sparse torch tensors to SciPy arrays and back, for callers of sentence-transformers."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from monograph import tensors
from monograph.sparse.rows import SparseRows


def to_scipy(vectors: Any, sparse: Any) -> Any:
    """Return sparse vectors, an array, a tensor or a list of rows of either, as one array of SciPy."""
    if isinstance(vectors, (list, tuple)):
        return sparse.vstack([sparse.coo_array(to_scipy(row, sparse)).reshape(1, -1) for row in vectors])
    if not tensors.is_tensor(vectors):
        return vectors
    vectors = vectors.detach().cpu().to_sparse_coo().coalesce()
    places = tuple(axis.numpy() for axis in vectors.indices())
    return sparse.coo_array((tensors.to_array(vectors.values()), places), shape=tuple(vectors.shape))


def to_torch(rows: SparseRows, dimension: int, *, as_sparse: bool) -> Any:
    """Return rows as a torch tensor, float32 [n, dimension], in coordinate format or dense.

    Raises:
        InputError: torch is not installed.

    """
    torch = tensors.import_torch()
    places = np.stack([np.repeat(np.arange(len(rows)), rows.counts), rows.columns.astype(np.int64)])
    values = torch.from_numpy(np.ascontiguousarray(rows.values))
    shape = (len(rows), dimension)
    # A row's columns ascend, and rows follow one another.
    tensor = torch.sparse_coo_tensor(torch.from_numpy(places), values, shape, is_coalesced=True)
    return tensor if as_sparse else tensor.to_dense()


def like(array: Any, *sources: Any) -> Any:
    """Return a csr_array as a sparse tensor on the sources' device if one of these is a tensor; else as it is."""
    tensor = tensors.first_tensor(*sources)
    if tensor is None:
        return array
    torch, entries = sys.modules["torch"], array.tocoo()
    places = np.stack([np.asarray(axis, dtype=np.int64) for axis in entries.coords])
    made = torch.sparse_coo_tensor(torch.from_numpy(places), torch.from_numpy(entries.data), tuple(array.shape))
    return made.coalesce().to(tensor.device)
