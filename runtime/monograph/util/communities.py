"""Groups of vectors that are close to one of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monograph.inference.pipeline import show_progress
from monograph.inputs import check_count
from monograph.similarity import check_rows, normalize
from monograph.util.similarity import Vectors


def community_detection(
    embeddings: Vectors,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool | None = False,
) -> list[list[int]]:
    """Find groups of vectors whose cosine to a central one reaches a threshold; no vector is in two of them.

    Memory grows with the number of pairs that reach the threshold: 4 bytes for each, in both directions, besides
    ``batch_size`` x n cosines.

    Args:
        embeddings: Dense vectors [n, d].
        threshold: The minimum cosine to the central vector.
        min_community_size: The minimum number of vectors of a group, the central one included.
        batch_size: Vectors that are compared with all others at a time.
        show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.

    Returns:
        The positions of each group's vectors: the central one first, the others by descending cosine. The largest group
        comes first.

    Raises:
        InputError: an argument is not valid.

    Examples:
        >>> from monograph.util import community_detection
        >>> community_detection([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], min_community_size=2)
        [[0, 2]]

    """
    minimum, rows = check_count(min_community_size, "min_community_size"), check_count(batch_size, "batch_size")
    vectors = check_rows(embeddings)
    if vectors.size == 0:
        return []
    vectors = normalize(vectors)
    groups: list[tuple[int, NDArray[np.uint32]]] = []
    with show_progress(len(vectors), show_progress_bar, "vectors") as on_vectors:
        for start in range(0, len(vectors), rows):
            cosines = vectors[start : start + rows] @ vectors.T
            close = cosines >= np.float32(threshold)
            for row in np.flatnonzero(close.sum(axis=1) >= minimum):
                members = np.flatnonzero(close[row])
                order = np.argsort(-cosines[row, members], kind="stable")
                groups.append((start + int(row), members[order].astype(np.uint32)))
            on_vectors(len(cosines))
    return _disjoint(groups, len(vectors), minimum)


def _disjoint(overlapping: list[tuple[int, NDArray[np.uint32]]], count: int, minimum: int) -> list[list[int]]:
    """Return groups without vectors of a larger one, those that stay large enough and have their center."""
    used = np.zeros(count, dtype=bool)
    groups = []
    for center, members in sorted(overlapping, key=lambda group: len(group[1]), reverse=True):
        if used[center]:
            continue
        free = members[~used[members]]
        if len(free) >= minimum:
            group = [center, *free[free != center].tolist()]
            used[group] = True
            groups.append(group)
    return sorted(groups, key=len, reverse=True)
