"""Classifiers of pairs: each equals sentence-transformers' CrossEncoder pair by pair, and ranks as it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray
from torch import nn

from monograph import Bundle, CrossEncoder, InputError
from monograph.bundle import open_bundle
from monograph.inputs import Pair
from monograph.tasks.rerank import RerankSection
from monograph_export import export
from support.architectures import MAX_LENGTH
from support.cross_encoders import IDENTITY, SIGMOID, edit_config, save_classifier, save_cross_encoder
from support.parity import assert_close

QUERY = "which birds flew over the harbour?"
SENTENCE = "seven grey geese flew over the quiet harbour before the rain began and nobody in the café looked up"
WORDS = SENTENCE.split() * 5
DOCUMENTS = [
    SENTENCE,
    "a",
    "",
    "The café opens at nine.",
    SENTENCE.upper(),
    *(" ".join(WORDS[:n]) for n in (30, 7, 55)),
]
# Short and over-long on either side, and on both.
PAIRS: list[Pair] = [
    *((QUERY, document) for document in DOCUMENTS),
    ("", ""), ("", "a"), (" ", "?!"), (SENTENCE, SENTENCE), (" ".join(WORDS), "a boat"), ("a boat", " ".join(WORDS)),
    (" ".join(WORDS), " ".join(reversed(WORDS))), ("x" * 90, "naïve \u0130 ﬁ 👩‍👩‍👧"),
]  # fmt: skip
DEVICES = [("cpu", "float32"), ("openvino", "float32")]


def _roberta(folder: Path) -> Path:
    return save_cross_encoder("RoBERTa", folder, activation=nn.Identity())


def _xlmr(folder: Path) -> Path:
    names = {0: "contradiction", 1: "entailment", 2: "neutral"}
    return save_cross_encoder("XLM-R", folder, id2label=names, label2id={name: label for label, name in names.items()})


def _electra(folder: Path) -> Path:
    """As before sentence-transformers 4: a classifier of transformers and no more."""
    return edit_config(save_classifier("ELECTRA", folder), sbert_ce_default_activation_function=IDENTITY)


def _mpnet(folder: Path) -> Path:
    """As sentence-transformers 4 and 5 saved it."""
    activation = {"activation_fn": SIGMOID, "version": "4.0.1"}
    return edit_config(save_classifier("MPNet", folder), sentence_transformers=activation)


def _deberta(folder: Path) -> Path:
    return save_classifier("DeBERTa-v2", folder)


def _modernbert(folder: Path) -> Path:
    return save_cross_encoder("ModernBERT", folder, num_labels=2, classifier_pooling="mean")


@dataclass(frozen=True)
class Kind:
    """How a checkpoint is saved, None for the one that tests share, and what its scores are."""

    save: Callable[[Path], Path] | None
    labels: int
    activation: str


KINDS: Mapping[str, Kind] = {
    "BERT": Kind(None, 1, "Sigmoid"),
    "RoBERTa": Kind(_roberta, 1, "Identity"),
    "XLM-R": Kind(_xlmr, 3, "Identity"),
    "ELECTRA": Kind(_electra, 1, "Identity"),
    "MPNet": Kind(_mpnet, 1, "Sigmoid"),
    "DeBERTa-v2": Kind(_deberta, 1, "Sigmoid"),
    "ModernBERT": Kind(_modernbert, 2, "Identity"),
}


@dataclass(frozen=True)
class Exported:
    name: str
    bundle: Bundle
    reference: Any

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def expected(self, **options: Any) -> NDArray[np.float32]:
        """The reference's scores of each pair alone."""
        return np.asarray(self.reference.predict(PAIRS, batch_size=1, show_progress_bar=False, **options), np.float32)


# Those whose operators and scores the others have as well run by night.
_SLOW = ("RoBERTa", "XLM-R", "ELECTRA", "MPNet")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.slow) if kind in _SLOW else kind for kind in KINDS],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("cross-encoder")
    save = KINDS[request.param].save
    checkpoint = request.getfixturevalue("tiny_cross_checkpoint") if save is None else save(folder / "model")
    reference: Any = sentence_transformers.CrossEncoder(str(checkpoint), device="cpu", local_files_only=True)
    lengths = {len(reference.preprocess([pair])["input_ids"][0]) for pair in PAIRS}
    assert max(lengths) == MAX_LENGTH
    if save is None:
        bundle = open_bundle(request.getfixturevalue("tiny_cross_bundle"))
    else:
        bundle = export(checkpoint, folder / "bundle")
    return Exported(request.param, bundle, reference)


def test_the_manifest_says_what_the_scores_are(exported: Exported) -> None:
    manifest = exported.bundle.manifest
    names = ("contradiction", "entailment", "neutral") if exported.name == "XLM-R" else ()
    assert manifest.task == "rerank"
    assert manifest.section == RerankSection(exported.kind.labels, exported.kind.activation, names)
    devices = {result.device for result in manifest.quality.verifications}
    assert devices == ({"cpu", "openvino:CPU"} if exported.kind.save is None else {"cpu"})
    assert all(result.passed for result in manifest.quality.verifications), manifest.quality.verifications


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_scores_are_those_of_sentence_transformers(exported: Exported, device: str, dtype: str) -> None:
    expected, logits = exported.expected(), exported.expected(activation_fn=nn.Identity())
    # A reference whose scores are all alike would show nothing.
    assert np.ptp(logits, axis=0).min() > 0.05
    with CrossEncoder(exported.bundle.path, device=device, compute_dtype=dtype) as model:
        assert model.num_labels == exported.kind.labels
        assert_close(model.predict(PAIRS), expected)
        assert_close(model.predict([list(pair) for pair in PAIRS], batch_size=2), expected)
        assert_close(np.stack([model.predict(pair) for pair in PAIRS]), expected)
        assert_close(model.predict(PAIRS, activation_fn="Identity"), logits)
        assert_close(model.predict(PAIRS, activation_fn="Sigmoid"), exported.expected(activation_fn=nn.Sigmoid()))
        assert_close(model.predict(PAIRS, apply_softmax=True), exported.expected(apply_softmax=True))
        assert_close(model.predict(PAIRS, prompt="find: "), exported.expected(prompt="find: "))
        assert_close(model.predict(PAIRS, prompt=""), exported.expected(prompt=""))


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_documents_are_ranked_as_by_sentence_transformers(exported: Exported, device: str, dtype: str) -> None:
    with CrossEncoder(exported.bundle.path, device=device, compute_dtype=dtype) as model:
        if exported.kind.labels != 1:
            with pytest.raises(InputError, match=f"has {exported.kind.labels}: use predict"):
                model.rank(QUERY, DOCUMENTS)
            return
        for options in ({}, {"return_documents": True}, {"top_k": 3}, {"prompt": "find: "}):
            expected = exported.reference.rank(QUERY, DOCUMENTS, batch_size=1, show_progress_bar=False, **options)
            actual: Any = model.rank(QUERY, DOCUMENTS, **options)
            assert [list(one) for one in actual] == [list(one) for one in expected]
            assert [one["corpus_id"] for one in actual] == [one["corpus_id"] for one in expected]
            assert [one.get("text") for one in actual] == [one.get("text") for one in expected]
            scores = np.array([one["score"] for one in actual], np.float32)
            assert_close(scores, np.array([one["score"] for one in expected], np.float32))
            assert all(type(one["score"]) is float and type(one["corpus_id"]) is int for one in actual)


def test_bfloat16_ranks_alike(exported: Exported) -> None:
    """Scores of bfloat16 are near enough to those of float32 to sort documents whose scores are not near each other."""
    logits = exported.expected(activation_fn=nn.Identity())
    with CrossEncoder(exported.bundle.path, device="openvino") as model:
        actual = model.predict(PAIRS, activation_fn="Identity")
    assert np.abs(actual - logits).max() <= 0.05 * max(1.0, float(np.abs(logits).max()))
