"""The similarity functions: shapes, zeros, chunks, and what they refuse; tests/parity has their values."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from monograph import Embedder, InputError, similarity
from monograph.sparse.rows import SparseVector

NAMES = ("cosine", "dot", "euclidean", "manhattan")
ACTIVE = SparseVector(np.arange(2, dtype=np.int32), np.ones(2, np.float32))


def vectors(rows: int, dimension: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """Return random vectors; the second row is all zeros."""
    result = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    result[1:2] = 0
    return result


def assert_same(ours: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_vector_is_taken_as_one_row(name: str) -> None:
    one, many = vectors(1)[0], vectors(6, seed=1)
    assert_same(similarity.similarity(name, one, many), similarity.similarity(name, one[None], many))
    assert_same(similarity.similarity(name, many, one), similarity.similarity(name, many, one[None]))
    assert similarity.similarity(name, one, one).shape == (1, 1)
    assert_same(similarity.similarity_pairwise(name, one, many[0]), similarity.similarity(name, one, many[0])[0, 0])
    for single in (one, one[None]):
        for result in (
            similarity.similarity_pairwise(name, single, many),
            similarity.similarity_pairwise(name, many, single),
        ):
            assert_same(result, similarity.similarity(name, one, many)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_zeros_is_no_division_by_zero(name: str) -> None:
    zeros = np.zeros((2, 4), dtype=np.float32)
    with np.errstate(all="raise"):
        assert np.array_equal(similarity.similarity(name, zeros, zeros), np.zeros((2, 2)))
        assert np.array_equal(similarity.similarity_pairwise(name, zeros, zeros), np.zeros(2))


@pytest.mark.parametrize("name", NAMES)
def test_lists_and_other_number_types_are_computed_in_float32(name: str) -> None:
    first, second = vectors(4).astype(np.float64), vectors(3, seed=1).astype(np.float16)
    expected = similarity.similarity(name, first.astype(np.float32), second.astype(np.float32))
    np.testing.assert_array_equal(similarity.similarity(name, first.tolist(), second), expected)


@pytest.mark.parametrize("name", ["euclidean", "manhattan"])
@pytest.mark.parametrize("chunk_bytes", [1, 11 * 24 * 4 * 3, 11 * 24 * 4 * 5 + 1])
def test_chunks_give_the_same_as_the_whole(name: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other vectors each time and the chunks first: memory used before cannot hold what a chunk left out.
    first, second = vectors(13, seed=chunk_bytes), vectors(11, seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(similarity, "_CHUNK_BYTES", chunk_bytes)
        in_chunks = similarity.similarity(name, first, second)
    np.testing.assert_array_equal(in_chunks, similarity.similarity(name, first, second))


@pytest.mark.parametrize("name", ["euclidean", "manhattan"])
def test_memory_is_bounded_whichever_side_is_large(name: str) -> None:
    few, many = vectors(2, 128), vectors(200_000, 128, seed=1)
    for first, second in ((few, many), (many, few)):
        tracemalloc.start()
        similarity.similarity(name, first, second)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # A chunk of differences and one of their magnitudes.
        assert peak < 3 * similarity._CHUNK_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_no_vectors_give_an_empty_result(name: str) -> None:
    none, some = np.empty((0, 24), dtype=np.float32), vectors(3)
    assert similarity.similarity(name, none, some).shape == (0, 3)
    assert similarity.similarity(name, some, none).shape == (3, 0)
    assert similarity.similarity_pairwise(name, none, none).shape == (0,)


@pytest.mark.parametrize(("name", "power"), [("euclidean", 2), ("manhattan", 1)])
def test_vectors_close_together_keep_their_distance(name: str, power: int) -> None:
    first = similarity.normalize(vectors(30, 384)[2:])
    second = first + np.random.default_rng(2).standard_normal(first.shape).astype(np.float32) * np.float32(1e-6)
    differences = np.abs(first.astype(np.float64) - second.astype(np.float64))
    expected = -((differences**power).sum(axis=1) ** (1 / power))
    np.testing.assert_allclose(np.diagonal(similarity.similarity(name, first, second)), expected, rtol=1e-5)
    np.testing.assert_allclose(similarity.similarity_pairwise(name, first, second), expected, rtol=1e-5)
    assert np.array_equal(np.diagonal(similarity.similarity(name, first, first)), np.zeros(len(first)))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "3 and 4 dimensions.*different models, or truncated to different lengths"),
        (np.zeros(3), np.zeros((2, 4)), "3 and 4 dimensions"),
        (np.zeros((1, 2, 3)), np.zeros((2, 3)), "one or two dimensions, got 3"),
        (np.zeros((2, 3)), np.float32(1), "one or two dimensions, got 0"),
        ([[1.0, 2.0], [3.0]], np.zeros((2, 2)), "array of numbers"),
        (["one"], np.zeros((2, 2)), "real numbers.*these are texts: encode them first"),
        (
            [np.zeros((2, 2)), np.zeros((3, 2))],
            np.zeros((2, 2)),
            "as of its tokens: similarity of a MultiVectorEncoder",
        ),
        ([np.zeros((2, 2)), np.zeros((2, 2))], np.zeros((2, 2)), "must be one for each text, and these are several"),
        (ACTIVE, np.zeros((2, 2)), "these are SparseVector: give the csr_array that encode returns"),
        ([ACTIVE], np.zeros((2, 2)), "these are SparseVector: give the csr_array that encode returns"),
        ([[{}]], np.zeros((1, 1)), "real numbers"),
        (np.zeros((2, 2), complex), np.zeros((2, 2)), "real numbers"),
        (None, np.zeros((2, 2)), "real numbers"),
        (scipy.sparse.csr_array(np.eye(2)), np.zeros((2, 2)), r"sparse: convert them by toarray\(\)"),
    ],
)
def test_what_are_no_vectors_is_refused(first: Any, second: Any, message: str, tiny_embedder: Embedder) -> None:
    for compare in (similarity.similarity, similarity.similarity_pairwise):
        for arguments in ((first, second), (second, first)):
            with pytest.raises(InputError, match=message if "dimensions" not in message else "dimensions|shapes"):
                compare("cosine", *arguments)
    with pytest.raises(InputError, match=message):
        tiny_embedder.similarity(first, second)


@pytest.mark.parametrize(("n", "m"), [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((3,), (2, 4)), ((1, 3), (2, 4))])
def test_pairs_need_equal_shapes(n: tuple[int, ...], m: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"needs equal shapes|3 and 4 dimensions"):
        similarity.similarity_pairwise("dot", np.zeros(n), np.zeros(m))


@pytest.mark.parametrize("compare", [similarity.similarity, similarity.similarity_pairwise])
def test_an_unknown_function_is_refused_with_the_known_ones(compare: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="'jaccard' is not one of cosine, dot, euclidean, manhattan"):
        compare("jaccard", np.zeros((1, 2)), np.zeros((1, 2)))


def test_normalized_rows_have_length_1_and_zeros_stay() -> None:
    rows = similarity.normalize(vectors(9) * 1000)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, *[1] * 7], atol=1e-6)
    assert rows.dtype == np.float32


def test_an_embedder_compares_as_its_manifest_says(tiny_embedder: Embedder) -> None:
    first, second = vectors(4), vectors(4, seed=1)
    assert tiny_embedder.manifest.section.similarity == "cosine"
    assert_same(tiny_embedder.similarity(first, second), similarity.similarity("cosine", first, second))
    expected = similarity.similarity_pairwise("cosine", first, second)
    assert_same(tiny_embedder.similarity_pairwise(first, second), expected)
    assert tiny_embedder.similarity_pairwise(first[0], second[0]).shape == ()
    named = tiny_embedder.similarity(embeddings1=first, embeddings2=second)
    assert_same(named, tiny_embedder.similarity(first, second))
