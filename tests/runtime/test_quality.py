"""What is read of a manifest's quality, and how it is described, where optional entries are absent or null."""

from __future__ import annotations

from typing import Any

import pytest

from monograph.fields import Fields
from monograph.quality import Quality, read_quality
from monograph.tasks.embedding import VectorAgreement

VOCABULARY: dict[str, Any] = {
    "tokens": 3000,
    "original_tokens": 90_000,
    "scripts": [],
    "character_scripts": [],
    "same_tokens": 1,
    "same_vectors": 1,
    "max_abs_difference": 0.0,
}
AGREEMENT: dict[str, Any] = {
    "texts": 12,
    **dict.fromkeys(("mean_cosine", "percentile_1_cosine", "worst_cosine", "spearman", "neighbour_agreement"), 1.0),
}
COMPRESSION: dict[str, Any] = {"table": "fp16", "limits": {}, "agreement": AGREEMENT}


def read(**entries: Any) -> Quality:
    problems: list[str] = []
    fields = Fields({"quality": {"reference": "torch", "verifications": [], **entries}}, "", problems)
    quality = read_quality(fields, VectorAgreement)
    assert problems == []
    return quality


@pytest.mark.parametrize("others", [{}, {"corpus": None, "coverage": None}])
def test_a_vocabulary_without_corpus_and_coverage(others: dict[str, Any]) -> None:
    report = read(vocabulary=VOCABULARY | others).vocabulary
    assert report is not None
    assert report.describe().startswith("3,000 of 90,000 tokens kept: single characters of no script; 1 texts")
    assert "None" not in report.describe()


def test_a_vocabulary_with_all_of_them() -> None:
    coverage = {"name": "b.txt", "texts": 9, "unchanged": 0.5, "unknown": 0.25, "unknown_before": 0.0, "growth": 1.5}
    more = {"corpus": "a.txt", "scripts": ["Latn"], "character_scripts": ["Cyrl", "Latn"], "coverage": coverage}
    report = read(vocabulary=VOCABULARY | more).vocabulary
    assert report is not None
    words = report.describe()
    assert "those that the texts of a.txt need, those of Latn, single characters of Cyrl, Latn" in words
    assert "of 9 texts of b.txt, 50.0% are tokenized as before, into 1.50 times as many tokens" in words
    assert "25.00% of them unknown (0.00% before)" in words


@pytest.mark.parametrize("others", [{}, {"calibration": None, "float32_inputs": None}])
def test_layers_that_were_not_calibrated(others: dict[str, Any]) -> None:
    report = read(compression=COMPRESSION | {"layers": {"precision": "fp16", **others}}).compression
    assert report is not None
    assert report.describe().startswith("table fp16, layers fp16; on ONNX Runtime, over 12 held-out texts")


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ({}, "torch"),
        ({"compression": COMPRESSION}, "torch with the same rounding"),
        ({"compression": None, "encoder_file": "model.onnx"}, "model.onnx with its modules in NumPy"),
    ],
)
def test_what_a_bundle_was_compared_with(entries: dict[str, Any], name: str) -> None:
    assert read(**entries).reference_name == name
