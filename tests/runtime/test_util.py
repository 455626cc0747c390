"""monograph.util without torch: ties, memory, and what it refuses; tests/parity has its values."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from monograph import InputError, util
from monograph.util.search import top_columns

ROWS = np.ones((2, 4), np.float32)
RANGES = np.stack([np.zeros(4), np.ones(4)])
# Name -> what is no array of vectors.
NO_VECTORS: dict[str, Any] = {
    "text": [["x"]],
    "three axes": np.zeros((1, 2, 4)),
    "no axis": np.float32(3),
    "ragged": [[1.0], [1.0, 2.0]],
    "ragged arrays": [np.zeros(2), np.zeros(3)],
    "None": None,
    "objects": [[{}]],
    "complex": np.zeros((2, 4), complex),
}
# Name -> a function of vectors; each takes sparse ones or not.
OF_DENSE: dict[str, Callable[[Any], Any]] = {
    "community_detection": util.community_detection,
    "pairwise_angle_sim": lambda vectors: util.pairwise_angle_sim(vectors, ROWS),
    "quantize_embeddings int8": lambda vectors: util.quantize_embeddings(vectors, "int8", RANGES),
    "quantize_embeddings binary": lambda vectors: util.quantize_embeddings(vectors, "binary"),
    "ranges": lambda vectors: util.quantize_embeddings(ROWS, "int8", vectors),
    "calibration": lambda vectors: util.quantize_embeddings(ROWS, "int8", calibration_embeddings=vectors),
}
OF_ANY: dict[str, Callable[[Any], Any]] = {
    "cos_sim": lambda vectors: util.cos_sim(vectors, ROWS),
    "cos_sim of sparse": lambda vectors: util.cos_sim(scipy.sparse.csr_array(ROWS), vectors),
    "euclidean_sim": lambda vectors: util.euclidean_sim(ROWS, vectors),
    "pairwise_cos_sim": lambda vectors: util.pairwise_cos_sim(vectors, ROWS),
    "normalize_embeddings": util.normalize_embeddings,
    "semantic_search": lambda vectors: util.semantic_search(vectors, ROWS),
    "corpus": lambda vectors: util.semantic_search(ROWS, vectors),
    "paraphrase_mining_embeddings": util.paraphrase_mining_embeddings,
}


@pytest.mark.parametrize("vectors", NO_VECTORS)
@pytest.mark.parametrize("function", [*OF_DENSE, *OF_ANY])
def test_what_are_no_vectors_is_refused(function: str, vectors: str) -> None:
    if function in ("ranges", "calibration") and vectors == "None":
        pytest.skip("None stands for no ranges")
    with pytest.raises(InputError, match=r"numbers|dimensions"):
        (OF_DENSE | OF_ANY)[function](NO_VECTORS[vectors])


@pytest.mark.parametrize("function", OF_DENSE)
def test_sparse_vectors_are_refused_where_only_dense_ones_are_taken(function: str) -> None:
    for vectors in (scipy.sparse.csr_array(ROWS), [scipy.sparse.csr_array(ROWS[0])] * 2):
        with pytest.raises(InputError, match=r"dense, and these are sparse: convert them by toarray\(\)"):
            OF_DENSE[function](vectors)


@pytest.mark.parametrize(
    "ranges",
    [
        np.array([[-1.0], [1.0]]),
        np.vstack([RANGES, RANGES[1:]]),
        np.full((2, 4), np.nan),
        np.zeros((2, 3)),
        np.full((2, 4), 1e39),
        [[0.0] * 4],
    ],
)
def test_ranges_have_two_numbers_for_each_dimension(ranges: Any) -> None:
    with pytest.raises(InputError, match="ranges must"):
        util.quantize_embeddings(ROWS, "int8", ranges=ranges)


@pytest.mark.parametrize("vectors", [np.empty((0, 4)), np.zeros(4), np.zeros((3, 5)), []])
def test_calibration_needs_vectors_of_the_same_dimension(vectors: Any) -> None:
    with pytest.raises(InputError, match=r"calibration_embeddings must|ranges must"):
        util.quantize_embeddings(ROWS, "int8", calibration_embeddings=vectors)


def test_of_equal_scores_the_first_are_found_also_at_the_cut() -> None:
    same = np.ones((300, 4), np.float32)
    [hits] = util.semantic_search(np.ones(4), same, top_k=3)
    assert [hit["corpus_id"] for hit in hits] == [0, 1, 2]
    [hits] = util.semantic_search(np.ones(4), same, top_k=3, corpus_chunk_size=2)
    assert [hit["corpus_id"] for hit in hits] == [0, 1, 2]


@pytest.mark.parametrize("columns", [7, 64, 65, 1000, 5001])
@pytest.mark.parametrize("limit", [1, 2, 5, 70])
def test_the_highest_columns_are_those_of_a_stable_sort(columns: int, limit: int) -> None:
    """With many equal scores, and some that are no number, in rows that are searched at once or by blocks."""
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, (60, columns)).astype(np.float32)
    scores[0], scores[1, ::3] = np.nan, np.nan
    scores[2:30] = random.standard_normal((28, columns))
    found, values = top_columns(scores, limit)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


def test_a_search_needs_little_memory_beside_its_block_of_scores() -> None:
    vectors = np.random.default_rng(0).standard_normal((40_000, 8)).astype(np.float32)
    peaks = []
    for search in (
        lambda: util.paraphrase_mining_embeddings(vectors[:20_000], 2000, 20_000, top_k=10),
        lambda: util.semantic_search(vectors[:1000], vectors, 1000),
    ):
        tracemalloc.start()
        search()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Scores of 2000 x 20,000 and 1000 x 40,000; results and what finds them are some tens of megabytes.
    assert max(peaks) < 1.6 * 4 * 40_000_000


def test_communities_take_four_bytes_for_a_pair() -> None:
    count = 3000
    vectors = np.ones((count, 8), np.float32) + np.random.default_rng(0).standard_normal((count, 8)) * 0.01
    tracemalloc.start()
    [group] = util.community_detection(vectors, batch_size=100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(group) == count
    assert peak < 6 * count * count


def test_sparse_vectors_are_normalized() -> None:
    vectors = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]], np.float32)
    made = util.normalize_embeddings(scipy.sparse.csr_array(vectors))
    np.testing.assert_allclose(made.toarray(), np.array([[0.6, 0, 0.8], [0, 0, 0]]), atol=1e-7)
    one = util.normalize_embeddings(scipy.sparse.coo_array(vectors[0]))
    assert one.shape == (3,)
    np.testing.assert_allclose(one.toarray(), np.array([0.6, 0, 0.8]), atol=1e-7)


@pytest.mark.parametrize("nothing", [[], np.empty((0, 4), np.float32), scipy.sparse.csr_array((0, 4))])
def test_no_query_and_no_corpus_have_no_hits(nothing: Any) -> None:
    queries: NDArray[np.float32] = ROWS
    assert util.semantic_search(queries, nothing) == [[], []]
    assert util.semantic_search(nothing, queries) == []
