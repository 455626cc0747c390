"""monograph.util gives what sentence_transformers.util gives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sentence_transformers import SimilarityFunction as TheirFunction
from sentence_transformers import util as theirs
from sentence_transformers.util.quantization import semantic_search_faiss, semantic_search_usearch

from monograph import Embedder, InputError
from monograph import util as ours
from support.tatoeba import Tatoeba

Vectors = NDArray[np.float32]
ALL_PAIRS = ("cos_sim", "pytorch_cos_sim", "dot_score", "euclidean_sim", "manhattan_sim")
PAIRWISE = (
    *("pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim"),
    "pairwise_angle_sim",
)
CONTAINERS: dict[str, Callable[[Vectors], Any]] = {
    "array": lambda vectors: vectors,
    "lists": lambda vectors: vectors.tolist(),
    "list of arrays": list,
    "tensor": torch.from_numpy,
    "list of tensors": lambda vectors: list(torch.from_numpy(vectors)),
    "bfloat16": lambda vectors: torch.from_numpy(vectors).to(torch.bfloat16),
}


def sample(rows: int, dimension: int = 24, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)


def sparse(rows: int, dimension: int = 60, seed: int = 0) -> Vectors:
    vectors = np.abs(sample(rows, dimension, seed))
    return np.where(vectors > 1, vectors, 0).astype(np.float32)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ALL_PAIRS)
def test_all_pairs(name: str, container: str) -> None:
    a, b = CONTAINERS[container](sample(7)), CONTAINERS[container](sample(30, seed=1))
    expected, actual = getattr(theirs, name)(a, b), getattr(ours, name)(a, b)
    assert isinstance(actual, torch.Tensor) == ("tensor" in container or container == "bfloat16")
    np.testing.assert_allclose(np.asarray(actual), expected.float().numpy(), atol=2e-5)


@pytest.mark.parametrize("dimension", [24, 7])
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", PAIRWISE)
def test_pairwise(name: str, container: str, dimension: int) -> None:
    a, b = CONTAINERS[container](sample(9, dimension)), CONTAINERS[container](sample(9, dimension, seed=1))
    expected, actual = getattr(theirs, name)(a, b), getattr(ours, name)(a, b)
    assert isinstance(actual, torch.Tensor) == ("tensor" in container or container == "bfloat16")
    np.testing.assert_allclose(np.asarray(actual), expected.float().numpy(), atol=2e-5)


@pytest.mark.parametrize("name", PAIRWISE[:-1])
def test_one_vector_with_each_of_others(name: str) -> None:
    one, many = sample(1), sample(9, seed=1)
    for a, b in ((one[0], many), (many, one[0]), (one, many), (one[0], many[0])):
        expected, actual = getattr(theirs, name)(a, b), getattr(ours, name)(a, b)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected.numpy(), atol=2e-5)


@pytest.mark.parametrize(
    "function", ["cos_sim", "pairwise_cos_sim", "pairwise_angle_sim", "euclidean_sim", "semantic_search"]
)
def test_ragged_tensors_are_refused(function: str) -> None:
    ragged = [torch.zeros(2), torch.zeros(3)]
    for arguments in ((ragged, sample(2)), (sample(2), ragged)):
        with pytest.raises(InputError, match="array of numbers"):
            getattr(ours, function)(*arguments)
    with pytest.raises(InputError, match="of one d"):
        ours.cos_sim([row.to_sparse() for row in ragged], sample(2))


@pytest.mark.parametrize(
    "function",
    [
        ours.community_detection,
        lambda vectors: ours.quantize_embeddings(vectors, "binary"),
        lambda vectors: ours.pairwise_angle_sim(vectors, sample(3)),
    ],
)
def test_sparse_tensors_are_refused_where_only_dense_ones_are_taken(function: Callable[[Any], Any]) -> None:
    vectors = torch.from_numpy(sparse(3))
    for layout in (vectors.to_sparse(), vectors.to_sparse_csr(), list(vectors.to_sparse())):
        with pytest.raises(InputError, match="these are sparse"):
            function(layout)


def test_an_embedder_refuses_sparse_tensors(minilm_embedder: Embedder) -> None:
    vectors = torch.from_numpy(sparse(3, 384)).to_sparse()
    for compare in (minilm_embedder.similarity, minilm_embedder.similarity_pairwise):
        with pytest.raises(InputError, match="these are sparse"):
            compare(vectors, vectors)


def test_one_vector_with_one_is_one_number() -> None:
    a, b = sample(2)
    assert ours.pairwise_cos_sim(a, b).shape == theirs.pairwise_cos_sim(a, b).shape == ()
    assert ours.cos_sim(a, b).shape == theirs.cos_sim(a, b).shape == (1, 1)


@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_sparse_vectors(name: str) -> None:
    a, b = sparse(5), sparse(8, seed=1)
    expected = getattr(theirs, name)(torch.from_numpy(a).to_sparse(), torch.from_numpy(b).to_sparse()).numpy()
    actual = getattr(ours, name)(scipy.sparse.csr_array(a), scipy.sparse.csr_array(b))
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    tensors = getattr(ours, name)(torch.from_numpy(a).to_sparse(), torch.from_numpy(b).to_sparse())
    np.testing.assert_allclose(tensors.numpy(), expected, atol=1e-4)


def test_the_enumeration_has_the_same_names_and_functions() -> None:
    for member in ours.SimilarityFunction:
        their = TheirFunction(member.value)
        assert member.name == their.name
        assert ours.SimilarityFunction.to_similarity_fn(member).__name__ == their.to_similarity_fn(their).__name__
        pairwise = ours.SimilarityFunction.to_similarity_pairwise_fn(member.value)
        assert pairwise.__name__ == their.to_similarity_pairwise_fn(their).__name__
    with pytest.raises(InputError, match="maxsim"):
        ours.SimilarityFunction.to_similarity_fn("maxsim")


@pytest.mark.parametrize("chunks", [(100, 500_000), (3, 7), (1, 1)])
@pytest.mark.parametrize("top_k", [1, 5, 1000])
@pytest.mark.parametrize("function", ["cos_sim", "dot_score"])
def test_semantic_search(chunks: tuple[int, int], top_k: int, function: str) -> None:
    queries, corpus = sample(8), sample(50, seed=1)
    expected = theirs.semantic_search(
        torch.from_numpy(queries), torch.from_numpy(corpus), *chunks, top_k, getattr(theirs, function)
    )
    actual = ours.semantic_search(queries, corpus, *chunks, top_k, getattr(ours, function))
    assert_same_hits(actual, expected)


@pytest.mark.parametrize("container", CONTAINERS)
def test_semantic_search_takes_what_holds_vectors(container: str) -> None:
    queries, corpus = CONTAINERS[container](sample(3)), CONTAINERS[container](sample(20, seed=1))
    assert_same_hits(ours.semantic_search(queries, corpus), theirs.semantic_search(queries, corpus))
    assert_same_hits(ours.semantic_search(queries[0], corpus), theirs.semantic_search(queries[0], corpus))


def test_semantic_search_of_sparse_vectors_and_by_any_function() -> None:
    queries, corpus = sparse(3), sparse(30, seed=1)
    their_queries, their_corpus = (torch.from_numpy(vectors).to_sparse() for vectors in (queries, corpus))
    expected = theirs.semantic_search(their_queries, their_corpus, score_function=theirs.dot_score)
    csr = scipy.sparse.csr_array(queries), scipy.sparse.csr_array(corpus)
    assert_same_hits(ours.semantic_search(*csr, score_function=ours.dot_score), expected)
    assert_same_hits(ours.semantic_search(their_queries, their_corpus, score_function=ours.dot_score), expected)
    # A function of torch's own tensors, and one that returns tensors for arrays.
    dense = torch.from_numpy(queries), torch.from_numpy(corpus)
    assert_same_hits(ours.semantic_search(*dense, score_function=lambda a, b: torch.mm(a, b.T)), expected)
    assert_same_hits(ours.semantic_search(queries, corpus, score_function=theirs.dot_score), expected)


def test_of_equal_scores_the_earlier_comes_first() -> None:
    [hits] = ours.semantic_search([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], top_k=3)
    assert [hit["corpus_id"] for hit in hits] == [1, 2, 3]


def test_no_query_and_no_corpus_have_no_hits() -> None:
    assert ours.semantic_search(np.empty((0, 4), np.float32), sample(3, 4)) == []
    empty: tuple[Any, ...] = (np.empty((0, 4), np.float32), [])
    for nothing in empty:
        expected = theirs.semantic_search(sample(2, 4), nothing)
        assert ours.semantic_search(sample(2, 4), nothing) == expected == [[], []]


@pytest.mark.parametrize("arguments", [{"top_k": 0}, {"query_chunk_size": 0}, {"corpus_chunk_size": -1}])
def test_counts_are_checked(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        ours.semantic_search(sample(2), sample(3), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", [(5000, 100_000), (7, 11)])
@pytest.mark.parametrize(("max_pairs", "top_k"), [(500_000, 100), (20, 100), (500_000, 2), (10, 1)])
def test_paraphrase_mining(chunks: tuple[int, int], max_pairs: int, top_k: int) -> None:
    vectors = sample(60)
    expected = theirs.paraphrase_mining_embeddings(torch.from_numpy(vectors), *chunks, max_pairs, top_k)
    actual = ours.paraphrase_mining_embeddings(vectors, *chunks, max_pairs, top_k)
    assert [pair[1:] for pair in actual] == [pair[1:] for pair in expected]
    np.testing.assert_allclose([pair[0] for pair in actual], [pair[0] for pair in expected], atol=1e-6)


def test_paraphrases_of_texts(minilm_embedder: Embedder, minilm_torch: Any, tatoeba: Tatoeba) -> None:
    texts = tatoeba.mixed(60, ["deu", "fra"])
    expected = theirs.paraphrase_mining(minilm_torch, texts, max_pairs=50)
    actual = ours.paraphrase_mining(minilm_embedder, texts, max_pairs=50)
    np.testing.assert_allclose([pair[0] for pair in actual], [pair[0] for pair in expected], atol=1e-5)
    assert {tuple(pair[1:]) for pair in actual[:40]} <= {tuple(pair[1:]) for pair in expected}


@pytest.mark.parametrize("least", [1, 2, 5, 500])
@pytest.mark.parametrize("batch_size", [1024, 7])
@pytest.mark.parametrize("threshold", [0.3, 0.75, 0.9])
def test_communities(least: int, batch_size: int, threshold: float) -> None:
    random = np.random.default_rng(3)
    centers = sample(12, 16)
    vectors = (centers[random.integers(0, 12, 150)] + 0.4 * sample(150, 16, seed=5)).astype(np.float32)
    options = {"threshold": threshold, "min_community_size": least, "batch_size": batch_size}
    expected = theirs.community_detection(torch.from_numpy(vectors), **options)
    assert ours.community_detection(vectors, **options) == expected  # type: ignore[arg-type]
    assert ours.community_detection(torch.from_numpy(vectors), **options) == expected  # type: ignore[arg-type]


def test_no_vectors_have_no_communities() -> None:
    assert ours.community_detection([]) == theirs.community_detection([]) == []


@pytest.mark.parametrize("container", ["array", "list of arrays", "tensor", "list of tensors", "bfloat16"])
@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_quantized_embeddings(precision: Any, container: str) -> None:
    vectors, calibration = CONTAINERS[container](sample(120, 37)), sample(300, 37, seed=1)
    for options in (
        {},
        {"calibration_embeddings": calibration},
        {"ranges": np.stack([calibration.min(0), calibration.max(0)])},
    ):
        expected = theirs.quantize_embeddings(vectors, precision, **options)
        actual = ours.quantize_embeddings(vectors, precision, **options)
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_no_vectors_are_quantized_to_none(precision: Any) -> None:
    empty = np.empty((0, 12), np.float32)
    actual, expected = ours.quantize_embeddings(empty, precision), theirs.quantize_embeddings(empty, precision)
    np.testing.assert_array_equal(actual, expected, strict=True)


def test_what_cannot_be_quantized_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="calibration_embeddings"):
        ours.quantize_embeddings(sample(1), "int8")
    with pytest.raises(InputError, match="float16"):
        ours.quantize_embeddings(sample(1), "float16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be floats, got int8"):
        ours.quantize_embeddings(np.ones((3, 8), np.int8), "binary")
    with caplog.at_level(logging.WARNING):
        ours.quantize_embeddings(sample(5), "uint8")
    assert "5 vectors" in caplog.text


def test_normalized_and_truncated() -> None:
    vectors = np.concatenate([sample(5), np.zeros((1, 24), np.float32)])
    expected = theirs.normalize_embeddings(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(ours.normalize_embeddings(vectors), expected, atol=1e-7)
    assert isinstance(ours.normalize_embeddings(torch.from_numpy(vectors)), torch.Tensor)
    made = ours.normalize_embeddings(torch.from_numpy(vectors).to_sparse())
    assert made.is_sparse
    np.testing.assert_allclose(made.to_dense().numpy(), expected, atol=1e-7)
    assert ours.truncate_embeddings(vectors, 8).shape == (6, 8)
    assert ours.truncate_embeddings(torch.from_numpy(vectors), None).shape == (6, 24)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("precision", ["float32", "uint8", "ubinary"])
def test_faiss(precision: Any, rescore: bool, exact: bool) -> None:
    assert_same_search(ours.semantic_search_faiss, semantic_search_faiss, precision, rescore=rescore, exact=exact)


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary", "binary"])
def test_usearch(precision: Any, rescore: bool) -> None:
    assert_same_search(ours.semantic_search_usearch, semantic_search_usearch, precision, rescore=rescore, exact=True)


@pytest.mark.parametrize("search", [ours.semantic_search_faiss, ours.semantic_search_usearch])
def test_a_corpus_is_given_once_and_in_a_known_precision(search: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="either corpus_embeddings or corpus_index"):
        search(sample(2))
    with pytest.raises(InputError, match="float64"):
        search(sample(2), sample(3), corpus_precision="float64")


def assert_same_search(our: Callable[..., Any], their: Callable[..., Any], precision: Any, **options: Any) -> None:
    """Compare two searches of the same corpus, with fewer vectors than hits as well."""
    queries, calibration = sample(6, 36), sample(200, 36, seed=2)
    if options["rescore"] and precision.endswith("binary"):
        # Which of the vectors with equal bits are rescored is the threads' chance: all of them.
        options["rescore_multiplier"] = 10
    for count in (100, 3):
        corpus = theirs.quantize_embeddings(sample(count, 36, seed=1), precision, calibration_embeddings=calibration)
        options |= {"corpus_precision": precision, "calibration_embeddings": calibration, "output_index": True}
        expected, _, _ = their(queries, corpus, **options)
        actual, seconds, index = our(queries, corpus, **options)
        assert seconds > 0
        assert_same_hits(actual, expected)
        again, _ = our(queries, corpus_index=index, **options | {"output_index": False})
        assert_same_hits(again, expected)


def assert_same_hits(actual: Any, expected: Any) -> None:
    """Compare hits; among those of equal scores, which bits give, any order is right."""
    assert len(actual) == len(expected)
    for ours_of_query, theirs_of_query in zip(actual, expected, strict=True):
        scores = [hit["score"] for hit in theirs_of_query]
        np.testing.assert_allclose([hit["score"] for hit in ours_of_query], scores, atol=2e-6, rtol=1e-6)
        if len(set(scores)) == len(scores):
            assert [hit["corpus_id"] for hit in ours_of_query] == [hit["corpus_id"] for hit in theirs_of_query]


@pytest.mark.parametrize("name", theirs.__all__)
def test_a_name_of_sentence_transformers_is_here_or_says_what_to_do(name: str) -> None:
    """Of a new release, too: a name without advice fails this."""
    if hasattr(ours, name):
        return
    with pytest.raises(AttributeError, match=rf"^monograph\.util has no '{name}': \w"):
        getattr(ours, name)


def test_a_name_of_nobody_is_a_plain_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'monograph\.util' has no attribute 'anything'$"):
        ours.anything  # type: ignore[attr-defined]  # noqa: B018
