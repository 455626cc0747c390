"""The real all-MiniLM-L6-v2: the published similarities, and sentence-transformers' own vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.engines import dtypes_of
from support.tatoeba import SCRIPTS, Tatoeba

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
# What a similarity may differ from the card's four decimals, and the cosine to torch that every text must reach.
MATRIX_TOLERANCE = {"float32": 0.00005, "bfloat16": 0.001}
MIN_COSINE = {"float32": 0.999999, "bfloat16": 0.9999}
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
    actual = minilm_embedder.encode(texts)
    expected = minilm_torch.encode(texts, batch_size=1, show_progress_bar=False)
    assert actual.dtype == expected.dtype == np.float32
    assert np.abs(actual - expected).max() <= 1e-5


def test_long_and_odd_texts_equal_torch(minilm_embedder: Embedder, minilm_torch: Any) -> None:
    texts = ["", " ", "\n\t", "é" * 3000, "word " * 2000, "👩‍👩‍👧", "שלום " * 90, "a\x00b", "ﷺ", "１２３", "ß İ"]
    for text in texts:
        actual, expected = minilm_embedder.encode(text), minilm_torch.encode(text, show_progress_bar=False)
        assert actual.shape == expected.shape == (384,)
        assert np.abs(actual - expected).max() <= 1e-5, repr(text[:20])


@pytest.fixture(
    scope="module", params=[*(("openvino", dtype) for dtype in dtypes_of("openvino")), ("auto", "auto")], ids=str
)
def accelerated(minilm_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(minilm_bundle, *request.param) as model:
        yield model


@pytest.fixture(scope="module", params=[400, pytest.param(2000, marks=pytest.mark.slow)])
def forty_languages(tatoeba: Tatoeba, request: pytest.FixtureRequest) -> list[str]:
    """As many sentences of each of 40 languages: those of the scripts, and others from the head of the list."""
    others = [language for language in tatoeba.languages() if language not in SCRIPTS]
    return tatoeba.mixed(request.param, [*SCRIPTS, *others[: 40 - len(SCRIPTS)]])


@pytest.fixture(scope="module")
def expected(minilm_torch: Any, forty_languages: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = minilm_torch.encode(forty_languages, batch_size=1, show_progress_bar=False)
    return vectors


def test_openvino_s_similarities_are_the_model_cards(accelerated: Embedder) -> None:
    vectors = accelerated.encode(SENTENCES)
    difference = np.abs(accelerated.similarity(vectors, vectors) - np.array(PUBLISHED, np.float32)).max()
    assert difference <= MATRIX_TOLERANCE[accelerated.compute_dtype]


def test_sentences_of_40_languages_are_close_to_torch_on_openvino(
    accelerated: Embedder, forty_languages: list[str], expected: NDArray[np.float32]
) -> None:
    actual = accelerated.encode(forty_languages)
    cosines = (
        np.einsum("nd,nd->n", actual, expected) / np.linalg.norm(actual, axis=1) / np.linalg.norm(expected, axis=1)
    )
    print(f"\n{accelerated}: worst cosine {cosines.min():.7f}, difference {np.abs(actual - expected).max():.1e}")
    assert cosines.min() >= MIN_COSINE[accelerated.compute_dtype]
    if accelerated.compute_dtype == "float32":
        assert np.abs(actual - expected).max() <= 1e-5


def test_the_automatic_device_names_its_choice(minilm_bundle: Path) -> None:
    with Embedder(minilm_bundle) as model:
        assert (model.device, model.compute_dtype) == ("openvino:CPU", dtypes_of("openvino")[0])
        assert "device='openvino:CPU'" in repr(model)
