"""Pool the vectors of a document's tokens: similar ones become their mean, for an index of half the size or less.

Clusters are those of Ward's method on cosine distances, as in sentence-transformers' ``HierarchicalTokenPooling``.

Source: Clavié et al., "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling" (2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import MonographError
from monograph.similarity import normalize


def pool_tokens(vectors: NDArray[np.float32], factor: float, protected: int) -> NDArray[np.float32]:
    """Return about ``len(vectors) / factor`` vectors of unit length for vectors of unit length, float32 [tokens, d].

    The first ``protected`` stay as they are; of the others come the means of clusters.

    Raises:
        MonographError: SciPy is not installed.

    """
    others = vectors[protected:]
    count = max(int(len(others) // factor), 1)
    if count >= len(others):
        return normalize(vectors)
    hierarchy, distance = import_scipy_clusters()
    linkage = hierarchy.linkage(distance.squareform(_distances(others), checks=False), method="ward")
    # With equal distances there may be fewer clusters.
    _, labels = np.unique(hierarchy.fcluster(linkage, t=count, criterion="maxclust"), return_inverse=True)
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, others)
    means = sums / np.bincount(labels).astype(np.float32)[:, np.newaxis]
    return normalize(np.concatenate([vectors[:protected], means]))


def _distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine distance of every two of some vectors of unit length, float32 [tokens, tokens].

    In place: they are 256 MB for 8,000 tokens.
    """
    products = vectors @ vectors.T
    return np.clip(np.subtract(1, products, out=products), 0, 2, out=products)


def import_scipy_clusters() -> tuple[Any, Any]:
    """Return SciPy's modules of hierarchical clusters and of distances; raise ``MonographError`` without SciPy."""
    try:
        from scipy.cluster import hierarchy
        from scipy.spatial import distance
    except ModuleNotFoundError as error:
        raise MonographError("pool_factor needs SciPy: pip install 'monograph[sparse]'") from error
    return hierarchy, distance
