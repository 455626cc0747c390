"""Rows of active dimensions, in NumPy alone: what a sparse encoder's outputs are kept as."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# The columns (int32 [k], ascending) and the values (float32 [k]) of one vector.
Active = tuple[NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class SparseRows:
    """n vectors by their values that are not 0, row after row.

    ``counts`` (int64 [n]) are the values of each row; ``columns`` (int32 [k], ascending within a row) and ``values``
    (float32 [k]) those of all.
    """

    counts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

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

    def each(self) -> list[Active]:
        """Return the columns and values of each row."""
        starts = self.starts.tolist()
        return [(self.columns[start:end], self.values[start:end]) for start, end in pairwise(starts)]


def active_rows(outputs: NDArray[np.float32], most: int | None) -> SparseRows:
    """Return what is not 0 of a graph's outputs, float32 [n, d]; of each row at most ``most`` values, the largest.

    By size, whatever their sign, as sentence-transformers chooses them.
    """
    rows, columns = np.nonzero(outputs)
    counts = np.bincount(rows, minlength=len(outputs))
    found = SparseRows(counts, columns.astype(np.int32), outputs[rows, columns])
    return found if most is None or counts.max(initial=0) <= most else _largest(found, most)


def in_order(batches: Iterable[tuple[NDArray[np.intp], SparseRows]], count: int) -> SparseRows:
    """Return the rows of batches, each with the places of its rows among all ``count`` (intp [b]), in that order."""
    places, parts = _unzipped(batches)
    joined = join(parts)
    order = np.argsort(np.concatenate([np.empty(0, np.intp), *places]))
    if len(order) != count:
        raise ValueError(f"{len(order)} rows instead of {count}")
    return joined.take(order)


def join(parts: Sequence[SparseRows]) -> SparseRows:
    """Return the rows of all parts, one after the other."""
    return SparseRows(
        np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
        np.concatenate([np.empty(0, np.int32), *(part.columns for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)]),
    )


def _unzipped(
    batches: Iterable[tuple[NDArray[np.intp], SparseRows]],
) -> tuple[list[NDArray[np.intp]], list[SparseRows]]:
    places, parts = [], []
    for rows, part in batches:
        places.append(rows)
        parts.append(part)
    return places, parts


def _largest(found: SparseRows, most: int) -> SparseRows:
    """Keep the ``most`` values of each row that are largest by size; of equal ones those of lower columns."""
    kept = np.ones(len(found.values), dtype=bool)
    for start, count in zip(found.starts[:-1], found.counts, strict=True):
        if count > most:
            row = slice(start, start + count)
            kept[row][np.argsort(-np.abs(found.values[row]), kind="stable")[most:]] = False
    return SparseRows(np.minimum(found.counts, most), found.columns[kept], found.values[kept])
