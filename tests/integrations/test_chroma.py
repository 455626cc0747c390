"""Chroma: collections find what they find with sentence-transformers, and open the bundle again."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

from monograph import Embedder, InputError
from monograph.integrations.chroma import MonographEmbeddingFunction
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES

IDS = [str(place) for place in range(len(DOCUMENTS))]
# Opens the collection in another process and prints the first document for a query.
REOPEN = """
import sys, chromadb, monograph.integrations.chroma
from chromadb.config import Settings
client = chromadb.PersistentClient(sys.argv[1], Settings(anonymized_telemetry=False))
found = client.get_collection("texts").query(query_texts=[sys.argv[2]], n_results=3)
print(*found["ids"][0])
"""


def client(folder: Path) -> Any:
    return chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))


def filled(folder: Path, function: Any) -> Any:
    collection = client(folder).create_collection("texts", embedding_function=function)
    collection.add(ids=IDS, documents=DOCUMENTS)
    return collection


def test_a_collection_retrieves_as_with_sentence_transformers(
    minilm_bundle: Path, minilm: Path, tmp_path: Path
) -> None:
    ours = MonographEmbeddingFunction(minilm_bundle, device="cpu")
    theirs = SentenceTransformerEmbeddingFunction(str(minilm))
    np.testing.assert_allclose(ours(DOCUMENTS), theirs(DOCUMENTS), atol=1e-5)
    first, second = (
        filled(tmp_path / name, function).query(query_texts=QUERIES, n_results=5)
        for name, function in (("ours", ours), ("theirs", theirs))
    )
    assert first["ids"] == second["ids"]
    np.testing.assert_allclose(first["distances"], second["distances"], atol=1e-5)


def test_a_collection_opens_the_bundle_again(minilm_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(minilm_bundle.parent)
    collection = filled(tmp_path, MonographEmbeddingFunction(minilm_bundle.name, device="cpu"))
    expected = collection.query(query_texts=QUERIES[:1], n_results=3)["ids"][0]
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", REOPEN, str(tmp_path), QUERIES[0]], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == expected, done.stderr


def test_queries_have_their_prompt_and_distances_are_of_the_model(tiny_bundle: Path, tmp_path: Path) -> None:
    with Embedder(tiny_bundle, device="cpu") as model:
        collection = filled(tmp_path, MonographEmbeddingFunction(tiny_bundle, device="cpu"))
        found = collection.query(query_texts=QUERIES[:1], n_results=len(IDS))
        assert model.similarity_fn_name == "cosine"
        expected = model.similarity(model.encode_query(QUERIES[0]), model.encode_document(DOCUMENTS))[0]
    np.testing.assert_allclose(
        1 - np.array(found["distances"][0]), expected[[int(one) for one in found["ids"][0]]], atol=1e-5
    )


def test_documents_and_queries_have_their_prompts(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    function = MonographEmbeddingFunction(tiny_bundle, device="cpu")
    expected = tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT)
    assert np.abs(expected - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    np.testing.assert_allclose(function(DOCUMENTS), expected, atol=1e-6)
    np.testing.assert_allclose(function.embed_query(QUERIES), tiny_embedder.encode_query(QUERIES), atol=1e-6)


def test_a_model_that_was_closed_is_opened_again(tiny_bundle: Path) -> None:
    function = MonographEmbeddingFunction(tiny_bundle, device="cpu")
    function.model.close()
    assert len(function(DOCUMENTS)) == len(DOCUMENTS)


def test_one_text_is_no_collection(tiny_bundle: Path) -> None:
    function = MonographEmbeddingFunction(tiny_bundle, device="cpu")
    for call in (function, function.embed_query):
        with pytest.raises(InputError, match="put it in a list"):
            call("abc")


def test_another_bundle_at_the_path_is_refused(tiny_bundle: Path, minilm_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    function = MonographEmbeddingFunction(tmp_path / "bundle", device="cpu")
    config = function.get_config()
    assert MonographEmbeddingFunction.build_from_config(config).model is function.model
    with pytest.raises(InputError, match="is not the bundle that embedded what is stored"):
        MonographEmbeddingFunction.build_from_config({**config, "path": str(minilm_bundle)})
    other = MonographEmbeddingFunction(minilm_bundle, device="cpu").get_config()
    with pytest.raises(InputError, match="make a new collection"):
        function.validate_config_update(config, other)


def test_an_open_model_is_refused(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="the database stores a bundle's path"):
        MonographEmbeddingFunction(tiny_embedder)  # type: ignore[arg-type]


def test_the_representation_is_that_of_the_model(tiny_bundle: Path) -> None:
    function = MonographEmbeddingFunction(tiny_bundle, device="cpu")
    assert repr(function) == f"MonographEmbeddingFunction({function.model!r})"
    function.model.close()
    assert str(tiny_bundle) in repr(function)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("chroma") == "Refunds are paid within ten days.\n"
