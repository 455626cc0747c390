"""Rows of active dimensions, in NumPy alone: what a sparse encoder's outputs are stored as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SparseVector(NamedTuple):
    """One vector, stored as its nonzero values.

    Attributes:
        indices: The columns of these values, in ascending order: int32 [k]. A column is a token id.
        values: The values: float32 [k].

    Examples:
        >>> from monograph import SparseEncoder
        >>> [vector] = SparseEncoder(bundle, device="cpu").encode_active("one text")
        >>> vector.indices.shape == vector.values.shape
        True

    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


def is_active(vectors: object) -> bool:
    """Return whether vectors are a ``SparseVector``, or a list of such."""
    first = vectors[0] if isinstance(vectors, list) and vectors else vectors
    return isinstance(first, SparseVector)


@dataclass(frozen=True)
class SparseRows:
    """n vectors by their values that are not 0, row after row.

    ``counts`` (int64 [n]) are the values of each row; ``columns`` (int32 [k], ascending within a row) and ``values``
    (float32 [k]) those of all.
    """

    counts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each row begins, and last where all end: int64 [n + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def take(self, positions: NDArray[np.intp]) -> SparseRows:
        """Return the rows at some positions (intp [m]), in their order."""
        counts = self.counts[positions]
        begins = np.cumsum(counts) - counts
        taken = np.repeat(self.starts[positions] - begins, counts) + np.arange(counts.sum())
        return SparseRows(counts, self.columns[taken], self.values[taken])

    def vectors(self) -> list[SparseVector]:
        """Return each row as a vector of its own."""
        starts = self.starts.tolist()
        return [SparseVector(self.columns[start:end], self.values[start:end]) for start, end in pairwise(starts)]


def active_rows(outputs: NDArray[np.float32], max_values: int | None) -> SparseRows:
    """Return what is not 0 of a graph's outputs, float32 [n, d]; of each row at most ``max_values`` values.

    Those of the largest magnitude stay, as sentence-transformers chooses them.
    """
    places, columns = np.nonzero(outputs)
    counts = np.bincount(places, minlength=len(outputs))
    rows = SparseRows(counts, columns.astype(np.int32), outputs[places, columns])
    return rows if max_values is None or counts.max(initial=0) <= max_values else _keep_largest(rows, max_values)


def join_rows(parts: Sequence[SparseRows]) -> SparseRows:
    """Return the rows of all parts, one after the other."""
    return SparseRows(
        np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
        np.concatenate([np.empty(0, np.int32), *(part.columns for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)]),
    )


def _keep_largest(rows: SparseRows, max_values: int) -> SparseRows:
    """Keep the values of largest magnitude of each row; of equal ones those of lower columns."""
    mask = np.ones(len(rows.values), dtype=bool)
    for start, count in zip(rows.starts[:-1], rows.counts, strict=True):
        if count > max_values:
            row = slice(start, start + count)
            mask[row][np.argsort(-np.abs(rows.values[row]), kind="stable")[max_values:]] = False
    return SparseRows(np.minimum(rows.counts, max_values), rows.columns[mask], rows.values[mask])
