"""What `info` says of a manifest whose optional entries are absent or null."""

from __future__ import annotations

from typing import Any

import pytest

from monograph.commands.quality import describe_compression, describe_reference, describe_vocabulary

VOCABULARY: dict[str, Any] = {
    "kept": 3000,
    "of": 90_000,
    "scripts": [],
    "character_scripts": [],
    "same_tokens": 1,
    "same_vectors": 1,
    "max_abs_difference": 0.0,
}
AGREEMENT = dict.fromkeys(
    ("texts", "mean_cosine", "percentile_1_cosine", "worst_cosine", "spearman", "neighbour_agreement"), 1.0
)


@pytest.mark.parametrize("others", [{}, {"corpus": None, "coverage": None}])
def test_a_vocabulary_without_corpus_and_coverage(others: dict[str, Any]) -> None:
    words = describe_vocabulary(VOCABULARY | others)
    assert words.startswith("3,000 of 90,000 tokens kept: single characters of no script; 1 texts")
    assert "None" not in words


def test_a_vocabulary_with_all_of_them() -> None:
    coverage = {"name": "b.txt", "texts": 9, "unchanged": 0.5, "unknown": 0.25, "unknown_before": 0.0, "growth": 1.5}
    more = {"corpus": "a.txt", "scripts": ["Latn"], "character_scripts": ["Cyrl", "Latn"], "coverage": coverage}
    words = describe_vocabulary(VOCABULARY | more)
    assert "those that the texts of a.txt need, those of Latn, single characters of Cyrl, Latn" in words
    assert "of 9 texts of b.txt, 50.0% are split as before, into 1.50 times as many tokens" in words
    assert "25.00% of them unknown (0.00% before)" in words


@pytest.mark.parametrize("others", [{}, {"calibration": None, "float32_inputs": None}])
def test_layers_that_were_not_calibrated(others: dict[str, Any]) -> None:
    words = describe_compression({"table": "fp16", "layers": {"precision": "fp16", **others}, "agreement": AGREEMENT})
    assert words.startswith("table fp16, layers fp16; on ONNX Runtime, over 1.0 other texts")


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ({}, "torch"),
        ({"compression": {}}, "torch with the same rounding"),
        ({"compression": None, "graft": {"encoder": "model.onnx"}}, "model.onnx with its modules in NumPy"),
    ],
)
def test_what_a_bundle_was_compared_with(quality: dict[str, Any], words: str) -> None:
    assert describe_reference(quality) == words
