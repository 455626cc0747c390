"""LlamaIndex: an index retrieves and reranks what it does with its classes for sentence-transformers."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

from monograph import CrossEncoder, Embedder, InputError
from monograph.integrations.llama_index import MonographEmbedding, MonographRerank
from support.frameworks import DOCUMENTS, QUERIES


def nodes() -> list[TextNode]:
    return [TextNode(text=text, id_=str(place)) for place, text in enumerate(DOCUMENTS)]


def retrieve(model: Any) -> list[list[str]]:
    retriever = VectorStoreIndex(nodes(), embed_model=model).as_retriever(similarity_top_k=5)
    return [[one.node.node_id for one in retriever.retrieve(query)] for query in QUERIES]


def test_an_index_retrieves_as_with_sentence_transformers(minilm_embedder: Embedder, minilm: Path) -> None:
    ours, theirs = MonographEmbedding(minilm_embedder), HuggingFaceEmbedding(str(minilm), device="cpu")
    np.testing.assert_allclose(
        ours.get_text_embedding_batch(DOCUMENTS), theirs.get_text_embedding_batch(DOCUMENTS), atol=1e-5
    )
    for query in QUERIES:
        np.testing.assert_allclose(ours.get_query_embedding(query), theirs.get_query_embedding(query), atol=1e-5)
    assert retrieve(ours) == retrieve(theirs)


def test_asynchronous_calls_give_the_same(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    model = MonographEmbedding(tiny_bundle, device="cpu", normalize=False)

    async def embed() -> tuple[Any, Any, Any]:
        return await asyncio.gather(
            model.aget_text_embedding_batch(DOCUMENTS),
            model.aget_text_embedding(DOCUMENTS[0]),
            model.aget_query_embedding(QUERIES[0]),
        )

    batch, single, query = asyncio.run(embed())
    assert np.abs(tiny_embedder.encode_document(DOCUMENTS) - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    np.testing.assert_allclose(batch, tiny_embedder.encode_document(DOCUMENTS), atol=1e-6)
    np.testing.assert_allclose(single, tiny_embedder.encode_document(DOCUMENTS[0]), atol=1e-6)
    np.testing.assert_allclose(query, tiny_embedder.encode_query(QUERIES[0]), atol=1e-6)


def test_nodes_are_reranked_as_with_sentence_transformers(tiny_cross_bundle: Path, tiny_cross_checkpoint: Path) -> None:
    ours = MonographRerank(tiny_cross_bundle, device="cpu", top_n=4)
    theirs = SentenceTransformerRerank(
        str(tiny_cross_checkpoint), device="cpu", top_n=4, cross_encoder_kwargs={"max_length": None}
    )
    for query in QUERIES:
        first, second = (
            one.postprocess_nodes([NodeWithScore(node=node, score=0.5) for node in nodes()], query_str=query)
            for one in (ours, theirs)
        )
        assert [one.node.node_id for one in first] == [one.node.node_id for one in second]
        np.testing.assert_allclose([one.score for one in first], [one.score for one in second], atol=1e-5)


def test_saved_settings_open_the_bundle_again(tiny_bundle: Path) -> None:
    model = MonographEmbedding(tiny_bundle, device="cpu", normalize=False)
    again = MonographEmbedding.from_dict(model.to_dict())
    assert again.to_dict() == model.to_dict()
    assert again.get_text_embedding("one text") == model.get_text_embedding("one text")


def test_saved_settings_of_an_open_model_open_its_bundle(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    settings = MonographEmbedding(tiny_embedder).to_dict()
    assert (settings["model_name"], settings["device"]) == (str(tiny_bundle), "cpu")
    again = MonographEmbedding.from_dict(settings)
    np.testing.assert_allclose(
        again.get_text_embedding("one text"), MonographEmbedding(tiny_embedder).get_text_embedding("one text")
    )


def test_saved_settings_hold_in_another_folder(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    settings = MonographEmbedding(tiny_bundle.name, device="cpu").to_dict()
    monkeypatch.chdir(tmp_path)
    assert len(MonographEmbedding.from_dict(settings).get_query_embedding("one text")) == 24


def test_one_text_is_no_collection_and_several_are_no_query(tiny_embedder: Embedder) -> None:
    model = MonographEmbedding(tiny_embedder)
    with pytest.raises(InputError, match="give one at a time"):
        model.get_query_embedding(["a", "b"])
    with pytest.raises(InputError, match="give one at a time"):
        model.get_text_embedding(["a", "b"])
    with pytest.raises(InputError, match="put it in a list"):
        model._get_text_embeddings("abc")  # type: ignore[arg-type]


def test_reranking_needs_a_query(tiny_cross_bundle: Path) -> None:
    reranker = MonographRerank(tiny_cross_bundle, device="cpu")
    assert reranker.postprocess_nodes([], query_str="one") == []
    with pytest.raises(InputError, match="needs a query"):
        reranker.postprocess_nodes([NodeWithScore(node=nodes()[0])])


def test_the_representation_is_that_of_the_model(tiny_embedder: Embedder, tiny_cross_encoder: CrossEncoder) -> None:
    model, reranker = MonographEmbedding(tiny_embedder), MonographRerank(tiny_cross_encoder)
    assert repr(model) == str(model) == f"MonographEmbedding({tiny_embedder!r})"
    assert repr(reranker) == str(reranker) == f"MonographRerank({tiny_cross_encoder!r})"


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("llama_index").splitlines()[0] == "Refunds are paid within ten days."
