"""Haystack: components and pipelines give what those of sentence-transformers give, and can be saved."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.core.serialization import allow_deserialization_module
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker

from monograph import CrossEncoder, Embedder, InputError
from monograph.integrations import haystack as integration
from monograph.integrations.haystack import MonographDocumentEmbedder, MonographRanker, MonographTextEmbedder
from support.frameworks import DOCUMENTS, QUERIES


def documents(**meta: Any) -> list[Document]:
    return [Document(content=text, meta={"place": place, **meta}) for place, text in enumerate(DOCUMENTS)]


def contents(found: list[Document]) -> list[str]:
    return [document.content for document in found]


def retrieve(document_embedder: Any, text_embedder: Any) -> Iterator[list[str]]:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(document_embedder.run(documents())["documents"])
    pipeline = Pipeline()
    pipeline.add_component("query", text_embedder)
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=5))
    pipeline.connect("query.embedding", "retriever.query_embedding")
    for query in QUERIES:
        yield contents(pipeline.run({"query": {"text": query}})["retriever"]["documents"])


def test_a_pipeline_retrieves_as_with_sentence_transformers(minilm_embedder: Embedder, minilm: Path) -> None:
    options = {"model": str(minilm), "device": ComponentDevice.from_str("cpu"), "progress_bar": False}
    their_documents = SentenceTransformersDocumentEmbedder(**options, meta_fields_to_embed=["title"])
    their_text = SentenceTransformersTextEmbedder(**options)
    our_documents = MonographDocumentEmbedder(minilm_embedder, meta_fields_to_embed=["title"])
    our_text = MonographTextEmbedder(minilm_embedder)
    first, second = (
        [one.embedding for one in component.run(documents(title="A notice"))["documents"]]
        for component in (our_documents, their_documents)
    )
    np.testing.assert_allclose(first, second, atol=1e-5)
    for query in QUERIES:
        np.testing.assert_allclose(our_text.run(query)["embedding"], their_text.run(query)["embedding"], atol=1e-5)
    assert list(retrieve(our_documents, our_text)) == list(retrieve(their_documents, their_text))


def test_documents_are_ranked_as_with_sentence_transformers(
    tiny_cross_bundle: Path, tiny_cross_checkpoint: Path
) -> None:
    ours = MonographRanker(str(tiny_cross_bundle), device="cpu", top_k=4, scale_score=True)
    theirs = SentenceTransformersSimilarityRanker(
        model=str(tiny_cross_checkpoint), device=ComponentDevice.from_str("cpu"), top_k=4
    )
    for query in QUERIES:
        first, second = (ranker.run(query=query, documents=documents())["documents"] for ranker in (ours, theirs))
        assert contents(first) == contents(second)
        np.testing.assert_allclose([one.score for one in first], [one.score for one in second], atol=1e-5)


def test_scores_are_limited_by_number_and_threshold(tiny_cross_encoder: CrossEncoder) -> None:
    scores = [one["score"] for one in tiny_cross_encoder.rank(QUERIES[0], DOCUMENTS)]
    ranker = MonographRanker(tiny_cross_encoder, score_threshold=scores[5])
    found = ranker.run(query=QUERIES[0], documents=[*documents(), *documents()])["documents"]
    np.testing.assert_allclose([one.score for one in found], scores[:6], atol=1e-6)
    assert len(ranker.run(query=QUERIES[0], documents=documents(), top_k=2)["documents"]) == 2
    assert ranker.run(query=QUERIES[0], documents=[])["documents"] == []


def test_a_saved_pipeline_loads(tiny_bundle: Path, tiny_cross_bundle: Path, tiny_embedder: Embedder) -> None:
    pipeline = Pipeline()
    pipeline.add_component("text", MonographTextEmbedder(str(tiny_bundle), device="cpu", normalize_embeddings=True))
    pipeline.add_component("documents", MonographDocumentEmbedder(str(tiny_bundle), device="cpu", batch_size=4))
    pipeline.add_component("ranker", MonographRanker(str(tiny_cross_bundle), device="cpu", top_k=3))
    pipeline.connect("documents.documents", "ranker.documents")
    allow_deserialization_module("monograph.integrations.haystack")
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict() == pipeline.to_dict()
    given = {
        "text": {"text": QUERIES[0]},
        "documents": {"documents": documents()},
        "ranker": {"query": QUERIES[0]},
    }
    results = loaded.run(given)
    expected = tiny_embedder.encode_query(QUERIES[0], normalize_embeddings=True)
    np.testing.assert_allclose(results["text"]["embedding"], expected, atol=1e-6)
    ranked = results["ranker"]["documents"]
    assert len(ranked) == 3
    vectors = tiny_embedder.encode_document([one.content for one in ranked])
    np.testing.assert_allclose([one.embedding for one in ranked], vectors, atol=1e-6)


def test_a_saved_component_holds_in_another_folder(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    for kind in (MonographTextEmbedder, MonographDocumentEmbedder):
        assert kind(tiny_bundle.name).to_dict()["init_parameters"]["model"] == str(tiny_bundle)


def test_the_representation_names_bundle_device_and_dimension(tiny_bundle: Path, tiny_cross_bundle: Path) -> None:
    embedder = MonographTextEmbedder(str(tiny_bundle), device="cpu")
    assert repr(embedder) == f"MonographTextEmbedder({str(tiny_bundle)!r}, device='cpu', not opened yet)"
    embedder.warm_up()
    assert repr(embedder).startswith(
        f"MonographTextEmbedder(Embedder({str(tiny_bundle)!r}, device='cpu', dimension=24, "
    )
    ranker = MonographRanker(CrossEncoder(tiny_cross_bundle, device="cpu"))
    assert repr(ranker).startswith(f"MonographRanker(CrossEncoder({str(tiny_cross_bundle)!r}, device='cpu', ")
    # One whose bundle does not exist.
    assert repr(MonographDocumentEmbedder("nothing")) == (
        "MonographDocumentEmbedder('nothing', device=None, not opened yet)"
    )


def test_the_bundle_is_opened_once_by_several_threads(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Embedder] = []

    def slowly(model: Any, device: str | None) -> Embedder:
        time.sleep(0.1)
        opened.append(Embedder(model, device=device))
        return opened[-1]

    monkeypatch.setattr(integration, "open_embedder", slowly)
    embedder = MonographTextEmbedder(tiny_bundle, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: embedder.run(text=text), DOCUMENTS[:4]))
    assert len(opened) == 1


def test_what_are_no_documents_and_no_query_is_refused(
    tiny_embedder: Embedder, tiny_cross_encoder: CrossEncoder
) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = [
        (MonographTextEmbedder(tiny_embedder), {"text": ["a", "b"]}),
        (MonographDocumentEmbedder(tiny_embedder), {"documents": "abc"}),
        (MonographDocumentEmbedder(tiny_embedder), {"documents": ["abc"]}),
        (MonographRanker(tiny_cross_encoder), {"query": ["a", "b"], "documents": documents()}),
        (MonographRanker(tiny_cross_encoder), {"query": "a", "documents": "abc"}),
        (MonographRanker(tiny_cross_encoder), {"query": "a", "documents": ["abc"]}),
    ]
    for component, arguments in calls:
        with pytest.raises(InputError, match=r"put it in a list|give one at a time|Document\(content="):
            component.run(**arguments)


def test_an_open_model_cannot_be_saved(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="bundle's path"):
        MonographTextEmbedder(tiny_embedder).to_dict()


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("haystack").splitlines()[0] == "Refunds are paid within ten days."
