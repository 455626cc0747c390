"""Sparse encoders: vectors, what is read from them and how they compare equal sentence-transformers' SparseEncoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from monograph import Bundle, InputError, SparseEncoder
from monograph.bundle import open_bundle
from monograph.engines import dtypes_of
from monograph.sparse.arrays import similarity, similarity_pairwise
from monograph_export import export
from support.architectures import MAX_LENGTH
from support.sparse_encoders import save_inference_free, save_masked_lm, save_splade, save_token_weights

SENTENCE = "seven grey geese flew over the quiet harbour before the rain began and nobody in the café looked up"
WORDS = SENTENCE.split() * 6
TEXTS = [
    SENTENCE,
    "a",
    "",
    "the café [PAD] opens at nine",
    SENTENCE.upper(),
    "naïve \u0130 ﬁ 👩‍👩‍👧",
    *(" ".join(WORDS[:length]) for length in (3, 30, 9, 120)),
    "a",
]
DEVICES = [("cpu", "float32"), ("openvino", "float32")]
# What is required of sparse vectors; what is required of every graph at float32, 1e-5, is checked at the export.
CLOSE = 1e-4


def _as_saved_before(folder: Path) -> Path:
    """As sentence-transformers 5.0 spelt it."""
    checkpoint = save_splade("BERT", folder)
    old = "sentence_transformers.sparse_encoder.models."
    modules = json.loads((checkpoint / "modules.json").read_text())
    for module, name in zip(modules, ("MLMTransformer", "SpladePooling"), strict=True):
        module["type"] = old + name
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    (checkpoint / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_LENGTH}))
    pooling = checkpoint / "1_SpladePooling" / "config.json"
    pooling.write_text(
        json.dumps({"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": 1000})
    )
    return checkpoint


# None is the one that tests share.
KINDS: Mapping[str, Callable[[Path], Path] | None] = {
    "BERT, tied": None,
    "BERT, untied, sum, two logarithms": lambda folder: save_splade(
        "BERT", folder, "sum", "log1p_relu", vocab_size=5000, tie_word_embeddings=False
    ),
    "BERT as saved before": _as_saved_before,
    "BERT, bare": lambda folder: save_masked_lm("BERT", folder / "bare"),
    "DistilBERT, two logarithms": lambda folder: save_splade("DistilBERT", folder, "max", "log1p_relu"),
    "RoBERTa": lambda folder: save_splade("RoBERTa", folder),
    "XLM-R": lambda folder: save_splade("XLM-R", folder),
    "ELECTRA, sum": lambda folder: save_splade("ELECTRA", folder, "sum"),
    "MPNet": lambda folder: save_splade("MPNet", folder),
    "ModernBERT": lambda folder: save_splade("ModernBERT", folder),
    "weights of tokens alone": save_token_weights,
}


@dataclass(frozen=True)
class Exported:
    name: str
    bundle: Bundle
    reference: Any

    def expected(self, texts: list[str], **options: Any) -> NDArray[np.float32]:
        """The reference's vectors of each text alone, dense."""
        encode = self.reference.encode
        actual = encode(texts, batch_size=1, show_progress_bar=False, convert_to_sparse_tensor=False, **options)
        return np.asarray(actual, dtype=np.float32)


def _exported(name: str, checkpoint: Path, bundle: Bundle) -> Exported:
    reference: Any = sentence_transformers.SparseEncoder(str(checkpoint), device="cpu", local_files_only=True)
    return Exported(name, bundle, reference)


@pytest.fixture(scope="module")
def tied(tiny_sparse_checkpoint: Path, tiny_sparse_bundle: Path) -> Exported:
    return _exported("BERT, tied", tiny_sparse_checkpoint, open_bundle(tiny_sparse_bundle))


# Others of the same kind of head run by night.
_BY_DAY = ("BERT, tied", "BERT, untied, sum, two logarithms", "BERT, bare", "weights of tokens alone")


@pytest.fixture(
    scope="module",
    params=[kind if kind in _BY_DAY else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tied: Exported) -> Exported:
    save = KINDS[request.param]
    if save is None:
        return tied
    folder = tmp_path_factory.mktemp("sparse")
    checkpoint = save(folder)
    bundle = export(checkpoint, folder / "bundle", task="sparse")
    return _exported(request.param, checkpoint, bundle)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("routed")
    checkpoint = save_inference_free(folder, max_active_dims=12)
    return _exported("routed", checkpoint, export(checkpoint, folder / "bundle"))


def assert_same(actual: csr_array, expected: NDArray[np.float32]) -> None:
    assert isinstance(actual, csr_array)
    assert actual.dtype == np.float32
    dense = actual.toarray()
    assert dense.shape == expected.shape
    assert np.abs(dense - expected).max() <= CLOSE
    assert np.array_equal(dense > CLOSE, expected > CLOSE) or _only_near(dense, expected)
    assert (np.diff(actual.indptr) == np.count_nonzero(dense, axis=1)).all()


def _only_near(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Tell whether only values right at the limit are on its other side."""
    differing = (actual > CLOSE) != (expected > CLOSE)
    return bool((np.abs(expected[differing] - CLOSE) < 1e-5).all())


def test_the_manifest_says_what_the_vectors_are(exported: Exported) -> None:
    manifest = exported.bundle.manifest
    assert manifest.task == "sparse"
    assert manifest.section.dimension == exported.expected(["a"]).shape[1]
    assert all(result.passed for result in manifest.quality.verifications), manifest.quality.verifications


def test_every_engine_was_right_at_the_export(tied: Exported) -> None:
    verifications = tied.bundle.manifest.quality.verifications
    assert {result.device for result in verifications} == {"cpu", "openvino:CPU"}
    assert all(result.passed for result in verifications), verifications


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_vectors_are_those_of_sentence_transformers(exported: Exported, device: str, dtype: str) -> None:
    expected = exported.expected(TEXTS)
    # Neither all weights nor none: both could hide one that is wrong.
    assert 0.01 < np.count_nonzero(expected) / expected.size < 0.9
    with SparseEncoder(exported.bundle.path, device, dtype) as model:
        assert_same(model.encode(TEXTS), expected)
        assert_same(model.encode(TEXTS, batch_size=3), expected)
        assert_same(csr_array(model.encode(SENTENCE).reshape(1, -1)), expected[:1])


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_queries_and_documents_take_their_routes(routed: Exported, device: str, dtype: str) -> None:
    with SparseEncoder(routed.bundle.path, device, dtype) as model:
        queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
        assert_same(queries, routed.expected(TEXTS, task="query"))
        assert_same(documents, routed.expected(TEXTS, task="document"))
        assert_same(model.encode(TEXTS), routed.expected(TEXTS))
        # The model's own limit.
        assert np.diff(documents.indptr).max() == 12
        assert_same(model.encode(TEXTS, max_active_dims=3), routed.expected(TEXTS, max_active_dims=3))


@pytest.mark.parametrize(
    ("encode", "options"),
    [
        ("encode_query", {}),
        ("encode_document", {}),
        ("encode", {"prompt_name": "query"}),
        ("encode", {"prompt": "seven grey "}),
    ],
)
def test_prompts_go_before_the_texts(encode: str, options: dict[str, str], tied: Exported) -> None:
    theirs = getattr(tied.reference, encode)(TEXTS, batch_size=1, convert_to_sparse_tensor=False, **options)
    with SparseEncoder(tied.bundle.path, "cpu") as model:
        assert_same(getattr(model, encode)(TEXTS, **options), np.asarray(theirs))
        without = model.encode(TEXTS).toarray()
    assert (np.abs(np.asarray(theirs) - without).max() > 0.1) == (encode != "encode_document")


@pytest.mark.skipif("bfloat16" not in dtypes_of("openvino"), reason="this CPU has no bfloat16")
def test_bfloat16_preserves_the_direction_of_every_vector(tied: Exported) -> None:
    expected = tied.expected(TEXTS)
    with SparseEncoder(tied.bundle.path, "openvino", "bfloat16") as model:
        actual = model.encode(TEXTS).toarray()
    cosines = (actual * expected).sum(axis=1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.999
    others = np.roll(expected, 1, axis=0)
    strangers = (actual * others).sum(axis=1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(others, axis=1)
    assert strangers.max() < 0.999


def test_decode_gives_the_same_tokens(tied: Exported) -> None:
    expected = torch.tensor(tied.expected(TEXTS))
    with SparseEncoder(tied.bundle.path, "cpu") as model:
        actual = model.encode(TEXTS)
        for ours, theirs in zip(model.decode(actual, top_k=5), tied.reference.decode(expected, top_k=5), strict=True):
            assert [token for token, _ in ours] == [token or "" for token, _ in theirs]
            assert np.allclose([weight for _, weight in ours], [weight for _, weight in theirs], atol=CLOSE)
        assert [len(tokens) for tokens in model.decode(actual)] == np.diff(actual.indptr).tolist()
        assert model.decode(model.encode("a"), top_k=2) == model.decode(actual[[1]], top_k=2)[0]
        with pytest.raises(InputError, match="dimensions"):
            model.decode(np.ones((1, 7), np.float32))


def test_sparsity_and_intersection_are_the_same(tied: Exported) -> None:
    expected = torch.tensor(tied.expected(TEXTS))
    with SparseEncoder(tied.bundle.path, "cpu") as model:
        actual = model.encode(TEXTS)
        assert model.sparsity(actual) == pytest.approx(tied.reference.sparsity(expected), rel=1e-4)
        common, shared = model.intersection(actual[[0]], actual), tied.reference.intersection(expected[0], expected)
        assert np.abs(common.toarray() - shared.to_dense().numpy()).max() <= CLOSE


@pytest.mark.parametrize("function", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarities_are_the_same(function: str, tied: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = tied.reference
    monkeypatch.setattr(reference, "similarity_fn_name", function)
    expected = torch.tensor(tied.expected(TEXTS))
    with SparseEncoder(tied.bundle.path, "cpu") as model:
        actual = model.encode(TEXTS)
        assert np.array_equal(model.similarity(actual, actual), similarity("dot", actual, actual))
    for ours, theirs in (
        (similarity(function, actual, actual), reference.similarity(expected, expected)),
        (similarity(function, actual[[0]], actual[2:4]), reference.similarity(expected[:1], expected[2:4])),
        (
            similarity_pairwise(function, actual[:3], actual[3:6]),
            reference.similarity_pairwise(expected[:3], expected[3:6]),
        ),
    ):
        # torch takes distances by squares of the whole, which are off by the root of a rounding where they are 0.
        allowed = 2e-2 if function == "euclidean" else 1e-4 * max(1.0, float(theirs.abs().max()))
        assert ours.shape == tuple(theirs.shape)
        assert np.abs(ours - theirs.numpy()).max() <= allowed
