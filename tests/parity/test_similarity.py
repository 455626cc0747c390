"""The similarity functions equal those of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import util

from monograph.similarity import similarity, similarity_pairwise

ALL_PAIRS: Mapping[str, Callable[..., Any]] = {
    "cosine": util.cos_sim,
    "dot": util.dot_score,
    "euclidean": util.euclidean_sim,
    "manhattan": util.manhattan_sim,
}
PAIRWISE: Mapping[str, Callable[..., Any]] = {
    "cosine": util.pairwise_cos_sim,
    "dot": util.pairwise_dot_score,
    "euclidean": util.pairwise_euclidean_sim,
    "manhattan": util.pairwise_manhattan_sim,
}


def vectors(rows: int, dimension: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """Return random vectors; the second row is all zeros."""
    result = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    result[1:2] = 0
    return result


def assert_equal(ours: NDArray[np.float32], theirs: Any) -> None:
    expected = theirs.numpy()
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL_PAIRS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 11), (11, 7), (5, 5), (1, 20), (60, 40)])
def test_all_pairs_equal_sentence_transformers(name: str, n: int, m: int) -> None:
    first, second = vectors(n), vectors(m, seed=1)
    assert_equal(similarity(name, first, second), ALL_PAIRS[name](first, second))


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("n", [1, 2, 33])
def test_pairs_equal_sentence_transformers(name: str, n: int) -> None:
    first, second = vectors(n), vectors(n, seed=1)
    assert_equal(similarity_pairwise(name, first, second), PAIRWISE[name](first, second))
