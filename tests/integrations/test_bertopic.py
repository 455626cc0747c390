"""BERTopic: topics of a bundle's vectors are those of sentence-transformers; an Embedder itself is refused."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bertopic import BERTopic
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from monograph import Embedder, InputError
from monograph.integrations.bertopic import MonographBackend
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES
from support.tatoeba import Tatoeba


def topics(embedding_model: Any, texts: list[str]) -> BERTopic:
    """Return a fitted model whose steps are deterministic, unlike UMAP."""
    model = BERTopic(
        embedding_model=embedding_model,
        umap_model=PCA(n_components=5, random_state=0),
        hdbscan_model=KMeans(n_clusters=6, n_init=4, random_state=0),
    )
    model.fit(texts)
    return model


def test_topics_are_those_of_sentence_transformers(
    minilm_embedder: Embedder, minilm_torch: Any, tatoeba: Tatoeba
) -> None:
    texts = tatoeba.english(300)
    ours, theirs = topics(MonographBackend(minilm_embedder), texts), topics(minilm_torch, texts)
    assert ours.topics_ == theirs.topics_
    assert len(set(ours.topics_)) == 6
    assert ours.get_topics().keys() == theirs.get_topics().keys()
    found, expected = ours.transform(QUERIES)[0], theirs.transform(QUERIES)[0]
    assert list(found) == list(expected)
    # By the vectors of topics and of the words that are searched.
    first, second = ours.find_topics("travel by train"), theirs.find_topics("travel by train")
    assert first[0] == second[0]
    np.testing.assert_allclose(first[1], second[1], atol=1e-5)


def test_an_embedder_itself_is_refused(minilm_embedder: Embedder) -> None:
    """Not replaced by a model that is downloaded, as BERTopic does with what it does not know."""
    with pytest.raises(ValueError, match="correct SentenceTransformers model"):
        topics(minilm_embedder, DOCUMENTS)


def test_texts_have_the_prompt_that_was_chosen(tiny_embedder: Embedder) -> None:
    backend = MonographBackend(tiny_embedder, prompt_name="document")
    expected = tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT)
    assert np.abs(expected - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    np.testing.assert_allclose(backend.embed(DOCUMENTS), expected, atol=1e-6)
    with pytest.raises(InputError, match="put it in a list"):
        backend.embed("abc")


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("bertopic") == "2\n"
