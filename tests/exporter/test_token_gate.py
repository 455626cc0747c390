"""What a compressed bundle gives for tokens is compared with the original's too, and refused where it is too far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import Bundle, Embedder, ExportError
from monograph.bundle import open_bundle
from monograph.quality import CompressionReport, Quality
from monograph.tasks.base import OutputPart, as_matrices
from monograph.tasks.embedding import EMBEDDING, EmbeddingAgreement, TokenAgreement
from monograph_export import export
from monograph_export.compression.agreements import token_agreement
from monograph_export.compression.gate import Gate
from monograph_export.compression.options import RequestedLimits
from monograph_export.compression.texts import built_in_texts
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support.hybrid_models import InTorch, save_hybrid

# Random weights do not keep to the limits that trained ones do.
LOOSE_LIMITS: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}
LIMITS = RequestedLimits({}, "int8").of(EMBEDDING_EXPORT.limits)
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def hybrid_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hybrid(tmp_path_factory.mktemp("hybrid"))


def agreement_of(bundle: Bundle) -> EmbeddingAgreement:
    compression = bundle.manifest.quality.compression
    assert compression is not None
    assert isinstance(compression.agreement, EmbeddingAgreement)
    return compression.agreement


def token_agreements_of(bundle: Bundle) -> dict[str, TokenAgreement]:
    of_tokens = agreement_of(bundle).of_tokens
    assert of_tokens is not None
    return of_tokens


@pytest.mark.parametrize(
    "options", [pytest.param({"table": "int8"}, marks=pytest.mark.slow), {"precision": "int8"}], ids=str
)
def test_the_loss_of_token_weights_and_vectors_is_measured(
    hybrid_checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    bundle = export(hybrid_checkpoint, tmp_path / "bundle", **options, **LOOSE_LIMITS)
    measured = token_agreements_of(bundle)
    assert list(measured) == ["token weights", "token vectors"]
    held_out = built_in_texts().held_out
    few = Gate(EMBEDDING_EXPORT, LIMITS, held_out).few
    assert measured["token vectors"].texts == len(few)
    reference = InTorch.of(hybrid_checkpoint)
    with Embedder(bundle.path, "cpu") as model:
        actual = model.encode_all(list(few)).multi_vector
    cosines = [
        (own * vectors.numpy()).sum(axis=1).mean()
        for own, (_, _, vectors) in zip(actual, map(reference.encode, few), strict=True)
    ]
    assert measured["token vectors"].mean_cosine == pytest.approx(np.mean(cosines), abs=1e-5)
    assert measured["token vectors"].worst_cosine == pytest.approx(np.min(cosines), abs=1e-5)
    assert measured["token weights"].neighbour_agreement is None
    assert 0.9 < measured["token weights"].mean_cosine < 1
    assert agreement_of(open_bundle(bundle.path)) == agreement_of(bundle)


@pytest.mark.slow
def test_the_loss_of_token_embeddings_is_measured(tiny_checkpoint: Path, tmp_path: Path) -> None:
    outputs = "sentence_embedding,token_embeddings"
    bundle = export(tiny_checkpoint, tmp_path / "bundle", outputs=outputs, table="int8", **LOOSE_LIMITS)
    [(name, measured)] = token_agreements_of(bundle).items()
    assert name == "token_embeddings"
    assert 0.99 < measured.mean_cosine < 1
    assert measured.neighbour_agreement is not None


def test_vectors_of_tokens_below_the_limit_are_refused(hybrid_checkpoint: Path, tmp_path: Path) -> None:
    limits: dict[str, Any] = {**LOOSE_LIMITS, "min_mean_cosine": 1}
    with pytest.raises(
        ExportError,
        match=r"original: mean cosine 0\.\d+ is below 1 \(dense\), mean cosine 0\.9999\d+ is below 1 "
        r"\(token weights\), mean cosine 0\.\d+ is below 1 \(token vectors\); choose --precision fp32 and --table fp32",
    ):
        export(hybrid_checkpoint, tmp_path / "bundle", table="int8", **limits)
    assert not (tmp_path / "bundle").exists()


def test_a_refusal_of_int8_layers_says_of_which_output_the_layers_cost_most(
    hybrid_checkpoint: Path, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {**LOOSE_LIMITS, "min_mean_cosine": 1}
    words = r"the layers that cost most of the mean cosine of sentence_embedding, each by itself: encoder\.layer\."
    with pytest.raises(ExportError, match=words):
        export(hybrid_checkpoint, tmp_path / "bundle", precision="int8", **limits)


def test_a_quality_level_is_that_of_all_outputs() -> None:
    def level(of_texts: float, of_tokens: float) -> str:
        tokens = {"token vectors": TokenAgreement(9, of_tokens, of_tokens, 1)}
        agreement = EmbeddingAgreement(9, of_texts, of_texts, of_texts, 1, 1, of_tokens=tokens)
        return EMBEDDING.level_of("int8", Quality("torch", (), compression=CompressionReport("int8", {}, agreement)))

    assert level(0.99999, 0.99999) == "lossless"
    assert level(0.99999, 0.9995) == "high"
    assert level(0.99999, 0.99) == level(0.99, 0.99999) == "fast"


def test_the_agreement_of_vectors_is_what_its_words_say() -> None:
    matrices = [RANDOM.normal(size=(length, 8)).astype(np.float32) for length in (3, 5, 2, 7)]
    same = token_agreement(part(matrices), part(matrices))
    assert [same.mean_cosine, same.worst_cosine] == pytest.approx([1, 1])
    assert (same.spearman, same.neighbour_agreement) == (1, 1)
    other = token_agreement(part(matrices), part([-matrices[0], *matrices[1:]]))
    assert [other.mean_cosine, other.worst_cosine] == pytest.approx([0.5, -1])


def test_the_agreement_of_weights_is_what_its_words_say() -> None:
    weights = [RANDOM.random((length, 1)).astype(np.float32) for length in (3, 5)] + [np.zeros((2, 1), np.float32)]
    assert token_agreement(part(weights, weights=True), part(weights, weights=True)).mean_cosine == pytest.approx(1)
    turned = [weights[0][::-1], *weights[1:]]
    measured = token_agreement(part(weights, weights=True), part(turned, weights=True))
    expected = float((weights[0][::-1] * weights[0]).sum() / (weights[0] ** 2).sum())
    assert measured.worst_cosine == pytest.approx(expected)
    assert measured.mean_cosine == pytest.approx((expected + 2) / 3)
    assert measured.spearman < 1


def test_few_texts_are_compared_and_fewer_long_ones() -> None:
    texts = tuple(f"{number} " * 3 for number in range(1000))
    gate = Gate(EMBEDDING_EXPORT, LIMITS, texts)
    assert 64 < len(gate.few) <= 128
    assert len(Gate(EMBEDDING_EXPORT, LIMITS, texts[:240]).few) == 120
    long = Gate(EMBEDDING_EXPORT, LIMITS, tuple(text * 2000 for text in texts))
    assert 1 <= sum(map(len, long.few)) <= 200_000
    assert len(Gate(EMBEDDING_EXPORT, LIMITS, ("a" * 300_000,)).few) == 1


def part(values: list[Any], *, weights: bool = False) -> OutputPart:
    return OutputPart("", as_matrices(values), weights=weights)
