"""The real all-MiniLM-L6-v2: the published similarities, and sentence-transformers' own vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from monograph import Embedder
from support.tatoeba import SCRIPTS, Tatoeba

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
PUBLISHED = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]


def test_similarities_are_the_model_cards(minilm_embedder: Embedder) -> None:
    vectors = minilm_embedder.encode(SENTENCES)
    np.testing.assert_array_equal(
        minilm_embedder.similarity(vectors, vectors).round(4), np.array(PUBLISHED, np.float32)
    )


def test_500_sentences_of_22_scripts_equal_torch(
    minilm_embedder: Embedder, minilm_torch: Any, tatoeba: Tatoeba
) -> None:
    texts = tatoeba.mixed(500, list(SCRIPTS))
    found = minilm_embedder.encode(texts)
    expected = minilm_torch.encode(texts, batch_size=1, show_progress_bar=False)
    assert found.dtype == expected.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5


def test_long_and_odd_texts_equal_torch(minilm_embedder: Embedder, minilm_torch: Any) -> None:
    texts = ["", " ", "\n\t", "é" * 3000, "word " * 2000, "👩‍👩‍👧", "שלום " * 90, "a\x00b", "ﷺ", "１２３", "ß İ"]
    for text in texts:
        found, expected = minilm_embedder.encode(text), minilm_torch.encode(text, show_progress_bar=False)
        assert found.shape == expected.shape == (384,)
        assert np.abs(found - expected).max() <= 1e-5, repr(text[:20])
