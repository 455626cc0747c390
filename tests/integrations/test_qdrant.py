"""Qdrant: a local collection with dense and sparse vectors finds what sentence-transformers' vectors find in it."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from monograph import Embedder, InputError, MultiVectorEncoder, SparseEncoder
from monograph.integrations.qdrant import DenseVectors, LateInteractionVectors, SparseVectors
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES

MULTI_VECTOR = Path(__file__).parents[1] / "data" / "multi-vector"


def collection(dense: Sequence[Any], sparse: Sequence[Any], params: dict[str, Any]) -> QdrantClient:
    client = QdrantClient(":memory:")
    client.create_collection("texts", **params)
    points = [
        models.PointStruct(id=place, vector={"dense": one, "sparse": other}, payload={"text": text})
        for place, (one, other, text) in enumerate(zip(dense, sparse, DOCUMENTS, strict=True))
    ]
    client.upsert("texts", points)
    return client


def search(client: QdrantClient, query: Any, using: str) -> tuple[list[int], list[float]]:
    points = client.query_points("texts", query=query, using=using, limit=len(DOCUMENTS)).points
    return [point.id for point in points], [point.score for point in points]


@pytest.fixture(scope="module")
def dense(minilm_embedder: Embedder) -> DenseVectors:
    return DenseVectors(minilm_embedder)


@pytest.fixture(scope="module")
def sparse(tiny_sparse_bundle: Path) -> SparseVectors:
    return SparseVectors(tiny_sparse_bundle, device="cpu")


@pytest.fixture(scope="module")
def client(dense: DenseVectors, sparse: SparseVectors) -> QdrantClient:
    params = {"vectors_config": {"dense": dense.params}, "sparse_vectors_config": {"sparse": sparse.params}}
    return collection(dense.documents(DOCUMENTS), sparse.documents(DOCUMENTS), params)


def test_dense_vectors_retrieve_as_those_of_sentence_transformers(
    client: QdrantClient, dense: DenseVectors, sparse: SparseVectors, minilm_torch: Any
) -> None:
    params = {"vectors_config": {"dense": dense.params}, "sparse_vectors_config": {"sparse": sparse.params}}
    theirs = collection(minilm_torch.encode(DOCUMENTS).tolist(), sparse.documents(DOCUMENTS), params)
    for query in QUERIES:
        ids, scores = search(client, dense.query(query), "dense")
        expected_ids, expected_scores = search(theirs, minilm_torch.encode(query).tolist(), "dense")
        assert ids == expected_ids
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_sparse_vectors_retrieve_by_the_similarity_of_the_model(
    client: QdrantClient, sparse: SparseVectors, tiny_sparse_bundle: Path
) -> None:
    with SparseEncoder(tiny_sparse_bundle, device="cpu") as model:
        every = model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS))
    for query, expected in zip(QUERIES, every, strict=True):
        ids, scores = search(client, sparse.query(query), "sparse")
        # Local Qdrant leaves out what scores 0.
        assert len(ids) == np.count_nonzero(expected)
        np.testing.assert_allclose(scores, expected[ids], rtol=1e-5)
        np.testing.assert_allclose(scores, -np.sort(-expected)[: len(ids)], rtol=1e-5)


@pytest.mark.parametrize("pool_factor", [1, 2])
def test_multi_vectors_retrieve_by_maxsim(pool_factor: float) -> None:
    vectors = LateInteractionVectors(MULTI_VECTOR, device="cpu")
    client = QdrantClient(":memory:")
    client.create_collection("texts", vectors_config=vectors.params)
    documents = vectors.documents(DOCUMENTS, pool_factor=pool_factor)
    client.upsert("texts", [models.PointStruct(id=place, vector=one) for place, one in enumerate(documents)])
    model = vectors.model
    every = model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS, pool_factor=pool_factor))
    for query, expected in zip(QUERIES, every, strict=True):
        points = client.query_points("texts", query=vectors.query(query), limit=len(DOCUMENTS)).points
        np.testing.assert_allclose([point.score for point in points], -np.sort(-expected), rtol=1e-4)
        np.testing.assert_allclose(expected[[point.id for point in points]], -np.sort(-expected), rtol=1e-4)


def test_multi_vectors_are_of_documents_in_a_list_and_one_query() -> None:
    vectors = LateInteractionVectors(MULTI_VECTOR, device="cpu")
    with pytest.raises(InputError, match="put it in a list"):
        vectors.documents("abc")
    with pytest.raises(InputError, match="give one at a time"):
        vectors.query(["one", "two"])  # type: ignore[arg-type]


def test_documents_without_a_vector_are_refused_before_qdrant_refuses_them(tmp_path: Path) -> None:
    from monograph_export import export
    from support.multi_vector_encoders import save_multi_vector

    checkpoint = save_multi_vector("BERT", tmp_path, skiplist=[*string.punctuation, "[CLS]", "[SEP]"])
    no_prompts = {"query": "", "document": ""}
    with MultiVectorEncoder(export(checkpoint, tmp_path / "bundle").path, device="cpu", prompts=no_prompts) as model:
        vectors = LateInteractionVectors(model)
        texts = ["a ship", ".", "boats"]
        assert [len(matrix) > 0 for matrix in model.encode_document(texts)] == [True, False, True]
        with pytest.raises(InputError, match="document 1 has no vector, and Qdrant needs one: leave it out"):
            vectors.documents(texts)
        client = QdrantClient(":memory:")
        client.create_collection("texts", vectors_config=vectors.params)
        with pytest.raises(ValueError, match="must not be empty"):
            client.upsert("texts", [models.PointStruct(id=0, vector=[])])
        stored = vectors.documents([texts[0], texts[2]])
        client.upsert("texts", [models.PointStruct(id=place, vector=one) for place, one in enumerate(stored)])
        assert len(client.query_points("texts", query=vectors.query("a ship")).points) == 2


@pytest.mark.parametrize("function", ["cosine", "dot", "euclidean", "manhattan"])
def test_a_collection_compares_as_the_model_does(function: str, tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, device="cpu", similarity_fn_name=function) as model:
        vectors = DenseVectors(model)
        client = QdrantClient(":memory:")
        client.create_collection("texts", vectors_config=vectors.params)
        client.upsert(
            "texts",
            [models.PointStruct(id=place, vector=one) for place, one in enumerate(vectors.documents(DOCUMENTS))],
        )
        found = client.query_points("texts", query=vectors.query(QUERIES[0]), limit=20).points
        expected = model.similarity(model.encode_query(QUERIES[0]), model.encode_document(DOCUMENTS))[0]
    np.testing.assert_allclose(expected[[point.id for point in found]], -np.sort(-expected), atol=1e-6)


def test_sparse_vectors_of_another_similarity_are_refused(tiny_sparse_bundle: Path) -> None:
    with (
        SparseEncoder(tiny_sparse_bundle, device="cpu", similarity_fn_name="cosine") as model,
        pytest.raises(InputError, match="by dot product, and this model by cosine"),
    ):
        SparseVectors(model)


def test_a_query_is_one_text(dense: DenseVectors, sparse: SparseVectors) -> None:
    with pytest.raises(InputError, match="give one at a time"):
        sparse.query(["one", "two"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give one at a time"):
        dense.query(["one", "two"])  # type: ignore[arg-type]
    for vectors in (dense, sparse):
        with pytest.raises(InputError, match="put it in a list"):
            vectors.documents("abc")


def test_documents_and_queries_have_their_prompts(tiny_embedder: Embedder, tiny_sparse_bundle: Path) -> None:
    vectors = DenseVectors(tiny_embedder)
    expected = tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT)
    assert np.abs(expected - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    np.testing.assert_allclose(vectors.documents(DOCUMENTS), expected, atol=1e-6)
    np.testing.assert_allclose(vectors.query(QUERIES[0]), tiny_embedder.encode_query(QUERIES[0]), atol=1e-6)
    prompts = {"query": "search: ", "document": DOCUMENT_PROMPT}
    with SparseEncoder(tiny_sparse_bundle, device="cpu", prompts=prompts) as model:
        sparse = SparseVectors(model)
        for text, made in zip(DOCUMENTS, sparse.documents(DOCUMENTS), strict=True):
            [stored] = model.encode_active([text], prompt=DOCUMENT_PROMPT)
            assert made.indices == stored.indices.tolist()
            np.testing.assert_allclose(made.values, stored.values, rtol=1e-5)
        [asked] = model.encode_active(QUERIES[:1], prompt="search: ")
        assert sparse.query(QUERIES[0]).indices == asked.indices.tolist()


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("qdrant") == "Refunds are paid within ten days.\n"
