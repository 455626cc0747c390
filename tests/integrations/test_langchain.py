"""LangChain: vectors and rankings are those of its class for sentence-transformers, in calls of both kinds."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import HuggingFaceEmbeddings

from monograph import CrossEncoder, Embedder, InputError
from monograph.integrations.langchain import MonographEmbeddings, MonographReranker
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES


@pytest.fixture(scope="module")
def ours(minilm_embedder: Embedder) -> MonographEmbeddings:
    return MonographEmbeddings(minilm_embedder)


@pytest.fixture(scope="module")
def theirs(minilm: Path) -> Any:
    """LangChain's class for sentence-transformers."""
    return HuggingFaceEmbeddings(model_name=str(minilm), model_kwargs={"device": "cpu"})


def test_vectors_are_those_of_sentence_transformers(ours: MonographEmbeddings, theirs: Any) -> None:
    # Their class replaces line ends by spaces, which are the same tokens.
    np.testing.assert_allclose(ours.embed_documents(DOCUMENTS), theirs.embed_documents(DOCUMENTS), atol=1e-5)
    for query in QUERIES:
        np.testing.assert_allclose(ours.embed_query(query), theirs.embed_query(query), atol=1e-5)


def test_a_vector_store_retrieves_the_same(ours: MonographEmbeddings, theirs: Any) -> None:
    stores = [InMemoryVectorStore.from_texts(DOCUMENTS, embedding=one) for one in (ours, theirs)]
    for query in QUERIES:
        first, second = ([one.page_content for one in store.similarity_search(query, k=5)] for store in stores)
        assert first == second


def test_asynchronous_calls_give_the_same(ours: MonographEmbeddings) -> None:
    async def embed() -> tuple[list[list[float]], list[list[float]]]:
        documents = await ours.aembed_documents(DOCUMENTS)
        return documents, await asyncio.gather(*map(ours.aembed_query, QUERIES))

    documents, queries = asyncio.run(embed())
    np.testing.assert_allclose(documents, ours.embed_documents(DOCUMENTS), atol=1e-6)
    np.testing.assert_allclose(queries, [ours.embed_query(query) for query in QUERIES], atol=1e-6)


def test_queries_and_documents_have_the_prompts_of_the_model(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embeddings = MonographEmbeddings(tiny_bundle, device="cpu", normalize_embeddings=True)
    assert isinstance(embeddings, Embeddings)
    expected = tiny_embedder.encode_query("one text", normalize_embeddings=True)
    assert np.abs(expected - tiny_embedder.encode("one text", normalize_embeddings=True)).max() > 1e-3
    np.testing.assert_allclose(embeddings.embed_query("one text"), expected, atol=1e-6)
    expected = tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT, normalize_embeddings=True)
    assert np.abs(expected - tiny_embedder.encode(DOCUMENTS, normalize_embeddings=True)).max() > 1e-3
    np.testing.assert_allclose(embeddings.embed_documents(DOCUMENTS), expected, atol=1e-6)
    assert embeddings.embed_documents([]) == []


def test_one_text_is_no_collection_and_several_are_no_query(tiny_embedder: Embedder) -> None:
    embeddings = MonographEmbeddings(tiny_embedder)
    with pytest.raises(InputError, match="put it in a list"):
        embeddings.embed_documents("abc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give one at a time"):
        embeddings.embed_query(["a", "b"])  # type: ignore[arg-type]


def test_the_reranker_is_a_compressor(tiny_cross_encoder: CrossEncoder, tiny_cross_bundle: Path) -> None:
    """With random weights, which documents are best means nothing; that they are the model's choice does."""
    reranker = MonographReranker(tiny_cross_bundle, device="cpu", top_n=3)
    assert isinstance(reranker, BaseDocumentCompressor)
    documents = [Document(page_content=text, metadata={"place": place}) for place, text in enumerate(DOCUMENTS)]
    before = copy.deepcopy(documents)
    expected = tiny_cross_encoder.rank(QUERIES[0], DOCUMENTS, top_k=3)
    for found in (
        reranker.compress_documents(documents, QUERIES[0]),
        asyncio.run(reranker.acompress_documents(documents, QUERIES[0])),
    ):
        assert [one.metadata["place"] for one in found] == [one["corpus_id"] for one in expected]
        scores = [one.metadata["relevance_score"] for one in found]
        np.testing.assert_allclose(scores, [one["score"] for one in expected], atol=1e-6)
    assert documents == before
    assert reranker.compress_documents([], QUERIES[0]) == []


def test_the_reranker_ranks_as_that_of_sentence_transformers(
    tiny_cross_checkpoint: Path, tiny_cross_bundle: Path
) -> None:
    from sentence_transformers import CrossEncoder as TorchCrossEncoder

    theirs = TorchCrossEncoder(str(tiny_cross_checkpoint), device="cpu")
    documents = [Document(page_content=text) for text in DOCUMENTS]
    found = MonographReranker(tiny_cross_bundle, device="cpu").compress_documents(documents, QUERIES[1])
    expected = theirs.rank(QUERIES[1], DOCUMENTS)
    assert [one.page_content for one in found] == [DOCUMENTS[one["corpus_id"]] for one in expected]


def test_what_is_no_embedder_is_refused(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="open Embedder, got dict"):
        MonographEmbeddings({})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="this model is open on cpu"):
        MonographEmbeddings(tiny_embedder, device="cpu")
    with pytest.raises(InputError, match="open CrossEncoder, got Embedder"):
        MonographReranker(tiny_embedder)  # type: ignore[arg-type]


def test_arguments_of_other_embeddings_are_taken_or_refused_with_advice(
    tiny_bundle: Path, tiny_embedder: Embedder
) -> None:
    named = MonographEmbeddings(model_name=tiny_bundle, device="cpu", truncate_dim=4)
    assert named.embed_query("a boat") == pytest.approx(tiny_embedder.encode_query("a boat", truncate_dim=4), abs=1e-5)
    assert repr(named) == f"MonographEmbeddings({named.model!r})"
    for options in (
        {"encode_kwargs": {"normalize_embeddings": True}},
        {"model_kwargs": {"device": "cpu"}},
        {"cache_folder": "here", "multi_process": True},
    ):
        with pytest.raises(InputError, match=r"^MonographEmbeddings has no argument .*: give what encode_kwargs"):
            MonographEmbeddings(tiny_bundle, **options)
    with pytest.raises(InputError, match="two names of the same argument"):
        MonographEmbeddings(tiny_bundle, model_name=tiny_bundle)
    with pytest.raises(InputError, match="needs a bundle's path"):
        MonographEmbeddings()


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("langchain").splitlines()[0] == "Refunds are paid within ten days."
