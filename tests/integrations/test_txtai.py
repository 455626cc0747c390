"""txtai: an index finds what it finds with sentence-transformers, and opens the bundle again."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from txtai import Embeddings

from monograph import Embedder
from monograph.integrations.txtai import METHOD
from support.frameworks import DOCUMENTS, QUERIES


def index(path: Path, method: str, **options: Any) -> Any:
    # Exact search, as NumPy does it.
    embeddings = Embeddings(path=str(path), method=method, backend="numpy", **options)
    embeddings.index(DOCUMENTS)
    return embeddings


def ours(path: Path) -> Any:
    return index(path, METHOD, vectors={"device": "cpu"})


def test_an_index_finds_as_with_sentence_transformers(minilm_bundle: Path, minilm: Path) -> None:
    first, second = ours(minilm_bundle), index(minilm, "sentence-transformers", gpu=False)
    np.testing.assert_allclose(first.batchtransform(DOCUMENTS), second.batchtransform(DOCUMENTS), atol=1e-5)
    for query in QUERIES:
        found, expected = first.search(query, 5), second.search(query, 5)
        assert [place for place, _ in found] == [place for place, _ in expected]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)


def test_a_saved_index_opens_the_bundle_again(minilm_bundle: Path, tmp_path: Path) -> None:
    made = ours(minilm_bundle)
    made.save(str(tmp_path / "index"))
    loaded = Embeddings()
    loaded.load(str(tmp_path / "index"))
    assert loaded.search(QUERIES[0], 3) == made.search(QUERIES[0], 3)


def test_an_index_of_a_relative_path_opens_its_bundle_from_another_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    made = ours(Path(tiny_bundle.name))
    made.save(str(tmp_path / "index"))
    monkeypatch.chdir(tmp_path)
    loaded = Embeddings()
    loaded.load("index")
    assert loaded.search(QUERIES[0], 3) == made.search(QUERIES[0], 3)


def test_texts_have_the_prompts_of_the_model(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    assert np.abs(tiny_embedder.encode_document(DOCUMENTS) - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    scores = tiny_embedder.similarity(tiny_embedder.encode_query(QUERIES[0]), tiny_embedder.encode_document(DOCUMENTS))
    found = ours(tiny_bundle).search(QUERIES[0], len(DOCUMENTS))
    np.testing.assert_allclose([score for _, score in found], scores[0][[place for place, _ in found]], atol=1e-5)
    assert len(found) > 3


def test_the_representation_is_that_of_the_model(tiny_bundle: Path) -> None:
    shown = repr(ours(tiny_bundle).model)
    assert shown.startswith(f"MonographVectors(Embedder({str(tiny_bundle)!r}, device='cpu', dimension=24, ")


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("txtai") == "Refunds are paid within ten days.\n"
