"""Nearest neighbours between two sets of vectors, in both directions at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from monograph.similarity import normalize
from monograph_bench.evaluation.encoder import Vectors

Indices = NDArray[np.intp]
# Rows and columns of a block of similarities: 64 MB of float32, whatever the number of vectors.
_BLOCK = 4096


def nearest_both_ways(first: Vectors, second: Vectors, block: int = _BLOCK) -> tuple[Indices, Indices]:
    """Return for each row of ``first`` [n, d] the row of ``second`` [m, d] of the greatest cosine, and the reverse.

    The results are indices [n] and [m]; of equally near rows the first is taken. At most ``block`` squared similarities
    are in memory.
    """
    a, b = normalize(first), normalize(second)
    forward, back = _Best(len(a)), _Best(len(b))
    for rows in _blocks(len(a), block):
        for columns in _blocks(len(b), block):
            similarities = a[rows] @ b[columns].T
            forward.update(rows, similarities, columns.start)
            back.update(columns, similarities.T, rows.start)
    return forward.index, back.index


class _Best:
    """The greatest similarity of each row so far, and where it is."""

    def __init__(self, rows: int) -> None:
        self.index: Indices = np.zeros(rows, dtype=np.intp)
        self._similarity = np.full(rows, -np.inf, dtype=np.float32)

    def update(self, rows: slice, similarities: Vectors, offset: int) -> None:
        """Take in similarities [rows, k] with the candidates from ``offset`` on."""
        place = similarities.argmax(axis=1)
        nearest = np.take_along_axis(similarities, place[:, np.newaxis], axis=1)[:, 0]
        # Greater, not equal: blocks come in order, and the first of equals stays.
        better = nearest > self._similarity[rows]
        self._similarity[rows] = np.where(better, nearest, self._similarity[rows])
        self.index[rows] = np.where(better, place + offset, self.index[rows])


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
