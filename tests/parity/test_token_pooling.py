"""Pooling of a document's token vectors equals sentence-transformers' HierarchicalTokenPooling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from monograph import InputError, MonographError, MultiVectorEncoder
from monograph import token_pooling as pooling
from monograph_export.probe_texts import probe_sentences

BUNDLE = Path(__file__).parents[1] / "data" / "multi-vector"
TEXTS = [*probe_sentences()[:12], "a", "", "two words"]


@pytest.fixture(scope="module")
def model() -> Iterator[MultiVectorEncoder]:
    with MultiVectorEncoder(BUNDLE, "cpu") as opened:
        yield opened


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4])
@pytest.mark.parametrize("protected", [0, 1, 2])
def test_pooled_vectors_equal_sentence_transformers(model: MultiVectorEncoder, factor: float, protected: int) -> None:
    whole = model.encode_document(TEXTS)
    reference = HierarchicalTokenPooling(factor, num_protected_tokens=protected)
    pooled = model.encode_document(TEXTS, pool_factor=factor, protected_tokens=protected)
    for matrix, vectors in zip(pooled, whole, strict=True):
        expected = reference.pool_one(torch.from_numpy(vectors)).numpy()
        assert matrix.shape == expected.shape
        np.testing.assert_allclose(matrix, expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3])
def test_equal_vectors_are_never_separated(factor: float) -> None:
    # Of values whose products are exact.
    vectors = np.tile(np.array([[0.5, 0.5, 0.5, 0.5]], np.float32), (10, 1))
    reference = HierarchicalTokenPooling(factor).pool_one(torch.from_numpy(vectors))
    assert len(pooling.pool_tokens(vectors, factor, 1)) == len(reference) == 2
    others = np.eye(4, dtype=np.float32)
    assert len(pooling.pool_tokens(np.concatenate([vectors, others]), factor, 1)) == 1 + min(5, int(13 // factor))


def test_pooled_vectors_are_quantized_streamed_and_compared(model: MultiVectorEncoder) -> None:
    [block] = model.encode_iter(TEXTS, "document", task="document", pool_factor=2, precision="int8")
    pooled = model.encode_document(TEXTS, pool_factor=2)
    for quantized, matrix in zip(block, pooled, strict=True):
        np.testing.assert_array_equal(quantized, np.rint(matrix * 127).astype(np.int8))
    assert model.similarity(model.encode_query(TEXTS[:2]), pooled).shape == (2, len(TEXTS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool_factor": 0.5}, "pool_factor must be a number of at least 1, got 0.5"),
        ({"pool_factor": float("inf")}, "pool_factor must be a number of at least 1"),
        ({"pool_factor": "2"}, "pool_factor must be a number of at least 1, got '2'"),
        ({"pool_factor": 2, "protected_tokens": -1}, "protected_tokens must be a number of tokens, 0 or more, got -1"),
    ],
)
def test_options_that_are_refused(model: MultiVectorEncoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.encode_document("a", **options)


def test_queries_are_not_pooled(model: MultiVectorEncoder) -> None:
    with pytest.raises(InputError, match="pool_factor is for documents"):
        model.encode_query("a", pool_factor=2)


def test_without_scipy_the_error_says_what_to_install(
    model: MultiVectorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.cluster", None)
    with pytest.raises(MonographError, match=r"pool_factor needs SciPy: pip install 'monograph\[sparse\]'"):
        model.encode_document("a", pool_factor=2)
    assert len(pooling.pool_tokens(np.eye(3, dtype=np.float32), 1, 1)) == 3
