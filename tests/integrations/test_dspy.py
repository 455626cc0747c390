"""DSPy: vectors and passages are those of sentence-transformers, and its cache does not mix models."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from monograph import Embedder, InputError
from monograph.integrations.dspy import MonographEmbedder, MonographRetriever
from support.frameworks import DOCUMENTS, QUERIES


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[None]:
    """DSPy's cache, in a folder of the test's own."""
    dspy.configure_cache(disk_cache_dir=str(tmp_path / "cache"))
    yield
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


def test_passages_are_those_of_sentence_transformers(minilm_embedder: Embedder, minilm_torch: Any) -> None:
    theirs = dspy.Embedder(minilm_torch.encode, caching=False)
    np.testing.assert_allclose(MonographEmbedder(minilm_embedder)(DOCUMENTS), theirs(DOCUMENTS), atol=1e-5)
    our_search = MonographRetriever(DOCUMENTS, minilm_embedder, k=4)
    their_search = dspy.retrievers.Embeddings(DOCUMENTS, theirs, k=4)
    for query in QUERIES:
        assert our_search(query).passages == their_search(query).passages


def test_calls_of_both_kinds_and_shapes(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embedder = MonographEmbedder(tiny_bundle, device="cpu", prompt_name="query", batch_size=3)
    expected = tiny_embedder.encode(DOCUMENTS, prompt_name="query")
    np.testing.assert_allclose(embedder(DOCUMENTS), expected, atol=1e-6)
    np.testing.assert_allclose(embedder(DOCUMENTS[0]), expected[0], atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embedder.acall(DOCUMENTS)), expected, atol=1e-6)


def test_the_event_loop_continues_while_texts_are_embedded(tiny_embedder: Embedder) -> None:
    texts = [f"{text} {number}" for number in range(60) for text in DOCUMENTS]
    embedder = MonographEmbedder(tiny_embedder)

    async def tick() -> int:
        ticks, embedding = 0, asyncio.create_task(embedder.acall(texts))
        while not embedding.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert (await embedding).shape == (len(texts), 24)
        return ticks

    # In the loop's own thread it is one: nothing runs before the vectors are there.
    assert asyncio.run(tick()) > 3


def test_one_text_is_no_corpus(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="put it in a list"):
        MonographRetriever("abc", tiny_embedder)  # type: ignore[arg-type]


def test_the_retriever_has_the_prompts_of_the_model(tiny_embedder: Embedder) -> None:
    search = MonographRetriever(DOCUMENTS, tiny_embedder, k=len(DOCUMENTS))
    scores = tiny_embedder.similarity(tiny_embedder.encode_query(QUERIES[0]), tiny_embedder.encode_document(DOCUMENTS))
    assert search(QUERIES[0]).passages == [DOCUMENTS[place] for place in np.argsort(-scores[0])]


@pytest.mark.usefixtures("cache")
def test_the_cache_does_not_mix_models(tiny_embedder: Embedder, minilm_embedder: Embedder) -> None:
    """As it does for functions of the same source code, which a model's methods are."""
    first, second = dspy.Embedder(tiny_embedder.encode), dspy.Embedder(minilm_embedder.encode)
    assert first(DOCUMENTS).shape == second(DOCUMENTS).shape, "DSPy mends this: the class may be simpler"
    cached = [MonographEmbedder(model, caching=True) for model in (tiny_embedder, minilm_embedder)]
    for model, embedder in zip((tiny_embedder, minilm_embedder), cached, strict=True):
        for _ in range(2):
            np.testing.assert_allclose(embedder(DOCUMENTS), model.encode(DOCUMENTS), atol=1e-6)
    queries = MonographEmbedder(tiny_embedder, caching=True, prompt_name="query")
    np.testing.assert_allclose(queries(DOCUMENTS), tiny_embedder.encode(DOCUMENTS, prompt_name="query"), atol=1e-6)


def test_the_representation_is_that_of_the_model(tiny_embedder: Embedder) -> None:
    assert repr(MonographEmbedder(tiny_embedder)) == f"MonographEmbedder({tiny_embedder!r})"
    assert repr(MonographRetriever(DOCUMENTS, tiny_embedder)) == f"MonographRetriever({tiny_embedder!r})"


def test_a_copy_shares_the_model(tiny_embedder: Embedder) -> None:
    copied = copy.deepcopy(MonographEmbedder(tiny_embedder))
    assert repr(copied) == f"MonographEmbedder({tiny_embedder!r})"
    np.testing.assert_array_equal(copied(DOCUMENTS), MonographEmbedder(tiny_embedder)(DOCUMENTS))


def test_a_saved_index_opens_the_bundle_again(
    tiny_bundle: Path, tiny_embedder: Embedder, minilm_embedder: Embedder, tmp_path: Path
) -> None:
    made = MonographRetriever(DOCUMENTS, tiny_embedder, k=3)
    made.save(str(tmp_path / "index"))
    for embedder in (tiny_embedder, tiny_embedder.encode_query):
        loaded = MonographRetriever.from_saved(str(tmp_path / "index"), embedder)
        assert loaded(QUERIES[0]).passages == made(QUERIES[0]).passages
        assert repr(loaded) == repr(made)
    # On the best device here, whose vectors may order two passages otherwise.
    opened = MonographRetriever.from_saved(str(tmp_path / "index"), str(tiny_bundle))
    assert len(opened(QUERIES[0]).passages) == 3
    assert str(tiny_bundle) in repr(opened)
    with pytest.raises(InputError, match="give the bundle that embedded the corpus"):
        MonographRetriever.from_saved(str(tmp_path / "index"), minilm_embedder)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("dspy") == "Refunds are paid within ten days.\n"
