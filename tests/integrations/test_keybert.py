"""KeyBERT: the keywords and scores of a bundle are those of sentence-transformers; an Embedder itself is refused."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keybert import KeyBERT

from monograph import Embedder, InputError
from monograph.integrations.keybert import MonographBackend
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS


@pytest.mark.parametrize("options", [{}, {"use_mmr": True, "diversity": 0.7, "keyphrase_ngram_range": (1, 2)}])
def test_keywords_are_those_of_sentence_transformers(
    options: dict[str, Any], minilm_embedder: Embedder, minilm_torch: Any
) -> None:
    ours = KeyBERT(model=MonographBackend(minilm_embedder)).extract_keywords(DOCUMENTS[:8], **options)
    theirs = KeyBERT(model=minilm_torch).extract_keywords(DOCUMENTS[:8], **options)
    for first, second in zip(ours, theirs, strict=True):
        assert [word for word, _ in first] == [word for word, _ in second]
        # KeyBERT rounds to four digits.
        assert [score for _, score in first] == pytest.approx([score for _, score in second], abs=1.01e-4)


def test_an_embedder_itself_is_refused(minilm_embedder: Embedder) -> None:
    """Not replaced by a model that is downloaded, as KeyBERT does with what it does not know."""
    with pytest.raises(ValueError, match="correct SentenceTransformers model"):
        KeyBERT(model=minilm_embedder)


def test_the_backend_needs_an_embedder() -> None:
    with pytest.raises(InputError, match="open Embedder, got int"):
        MonographBackend(3)  # type: ignore[arg-type]


def test_texts_have_the_prompt_that_was_chosen(tiny_embedder: Embedder) -> None:
    backend = MonographBackend(tiny_embedder, prompt_name="document")
    expected = tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT)
    assert np.abs(expected - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    np.testing.assert_allclose(backend.embed(DOCUMENTS), expected, atol=1e-6)
    with pytest.raises(InputError, match="put it in a list"):
        backend.embed("abc")


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert "card" in run_snippet("keybert")
