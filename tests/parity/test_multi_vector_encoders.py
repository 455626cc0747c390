"""Multi-vector encoders: token vectors, MaxSim and rankings equal sentence-transformers' MultiVectorEncoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray

from monograph import Bundle, MultiVectorEncoder, ParityError, UnsupportedModuleError
from monograph_export import export
from support.multi_vector_encoders import (
    EXPANSION,
    multi_vector_model,
    save_as_pylate,
    save_as_stanford,
    save_multi_vector,
)
from support.parity import TOLERANCE, assert_close

SENTENCE = "seven grey geese flew over the quiet harbour, before the rain began; and nobody in the café looked up."
WORDS = SENTENCE.split() * 6
TEXTS = [
    SENTENCE,
    "a",
    "",
    "the café [PAD] opens at nine, doesn't it?",
    "[MASK] . , !",
    SENTENCE.upper(),
    "naïve \u0130 ﬁ 👩‍👩‍👧",
    *(" ".join(WORDS[:length]) for length in (3, 30, 9, 120)),
    "a",
]
DEVICES = [("cpu", "float32"), ("openvino", "float32")]
MAXSIM_TOLERANCE = 1e-4
# Windows that no token of a short query is beyond, as of every published model.
_WIDE = {"local_attention": 64}
KINDS: Mapping[str, Callable[[Path], Path]] = {
    "BERT": lambda folder: save_multi_vector("BERT", folder),
    "BERT, attended expansion": lambda folder: save_multi_vector(
        "BERT", folder, expansion={"strategy": "fixed", "attend": True, "length": 16, "token": "[UNK]"}
    ),
    "BERT, no expansion, no Dense, not normalized": lambda folder: save_multi_vector(
        "BERT", folder, expansion=None, dimension=None, normalize=False, query_length=12
    ),
    "BERT, documents of any length": lambda folder: save_multi_vector("BERT", folder, document_length=None),
    "ModernBERT": lambda folder: save_multi_vector("ModernBERT", folder, config=_WIDE),
    "XLM-R, minimal expansion": lambda folder: save_multi_vector(
        "XLM-R", folder, expansion={**EXPANSION, "strategy": "min", "length": 8}
    ),
    "PyLate": save_as_pylate,
    "Stanford": save_as_stanford,
}


@dataclass(frozen=True)
class Exported:
    bundle: Bundle
    reference: Any

    def expected(self, role: str, texts: list[str]) -> list[NDArray[np.float32]]:
        """The reference's vectors of each text alone."""
        encode = getattr(self.reference, f"encode_{role}")
        return [np.asarray(encode(text, show_progress_bar=False)) for text in texts]


# What is special of the others has tests of its own, too.
_BY_DAY = ("BERT, no expansion, no Dense, not normalized", "PyLate", "Stanford")


@pytest.fixture(
    scope="module",
    params=[kind if kind in _BY_DAY else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("multi-vector")
    checkpoint = KINDS[request.param](folder)
    bundle = export(checkpoint, folder / "bundle")
    reference = sentence_transformers.MultiVectorEncoder(str(checkpoint), device="cpu", local_files_only=True)
    return Exported(bundle, reference)


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
@pytest.mark.parametrize("role", ["query", "document"])
def test_token_vectors_equal_sentence_transformers(exported: Exported, device: str, dtype: str, role: str) -> None:
    expected = exported.expected(role, TEXTS)
    with MultiVectorEncoder(exported.bundle.path, device, dtype) as model:
        encode = getattr(model, f"encode_{role}")
        for actual in (encode(TEXTS), encode(TEXTS, batch_size=2), [encode(text) for text in TEXTS]):
            for matrix, vectors in zip(actual, expected, strict=True):
                assert matrix.shape == vectors.shape
                if len(vectors):
                    assert_close(matrix, vectors)


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_maxsim_and_rankings_equal_sentence_transformers(exported: Exported, device: str, dtype: str) -> None:
    reference = exported.reference
    queries, documents = (reference.encode_query(TEXTS), reference.encode_document(TEXTS))
    scores = np.asarray(reference.similarity(queries, documents))
    with MultiVectorEncoder(exported.bundle.path, device, dtype) as model:
        actual = model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))
        # Of vectors that are not normalized scores are larger.
        allowed = MAXSIM_TOLERANCE * max(1.0, float(np.abs(scores).max()) / 16)
        np.testing.assert_allclose(actual, scores, atol=allowed)
        # Of one padded tensor, and of tensors.
        np.testing.assert_allclose(np.asarray(model.similarity(queries, documents)), scores, atol=allowed)
        for query, row in zip(TEXTS, scores, strict=True):
            ranking = [match["corpus_id"] for match in model.rank(query, TEXTS)]
            # Equal texts have equal scores.
            np.testing.assert_allclose(row[ranking], np.sort(row)[::-1], atol=allowed)


def test_texts_without_a_task_are_documents_where_that_is_the_same(tmp_path: Path) -> None:
    checkpoint = save_multi_vector("BERT", tmp_path, document_length=None)
    reference = sentence_transformers.MultiVectorEncoder(str(checkpoint), device="cpu", local_files_only=True)
    bundle = export(checkpoint, tmp_path / "bundle")
    assert bundle.manifest.routing is not None
    assert bundle.manifest.routing.default == "document"
    with MultiVectorEncoder(bundle.path, "cpu") as model:
        for actual, text in zip(model.encode(TEXTS), TEXTS, strict=True):
            expected = np.asarray(reference.encode(text, show_progress_bar=False))
            assert actual.shape == expected.shape
            assert np.abs(actual - expected).max(initial=0) <= TOLERANCE


def test_a_loaded_model_is_exported_and_left_as_it_is(tmp_path: Path) -> None:
    model = multi_vector_model("BERT", tmp_path)
    before = model.encode_query(TEXTS, convert_to_numpy=True)
    bundle = export(model, tmp_path / "bundle")
    for actual, expected in zip(model.encode_query(TEXTS, convert_to_numpy=True), before, strict=True):
        assert np.array_equal(actual, expected)
    assert bundle.manifest.tokenizers["document"].max_length == 48
    assert bundle.manifest.tokenizers["query"].max_length == EXPANSION["length"]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "setting keep_only_token_ids"),
        ("sentence_bert_config.json", {"query_expansion": {**EXPANSION, "length": 200}}, "fills queries up to 200"),
    ],
)
def test_what_has_no_exact_graph_is_refused(tmp_path: Path, file: str, change: dict[str, Any], message: str) -> None:
    checkpoint = save_multi_vector("BERT", tmp_path)
    path = checkpoint / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnsupportedModuleError, match=message):
        export(checkpoint, tmp_path / "bundle")


def test_expansion_beyond_a_window_without_a_token_is_refused(tmp_path: Path) -> None:
    """Torch gives tokens that attend to nothing a vector of its own; the export notices, and writes nothing."""
    with pytest.raises(ParityError, match="query: alone"):
        export(save_multi_vector("ModernBERT", tmp_path), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_compressed_vectors_keep_their_maxsim(tmp_path: Path) -> None:
    checkpoint = save_multi_vector("BERT", tmp_path)
    bundle = export(checkpoint, tmp_path / "table", table="int8")
    compression = bundle.manifest.quality.compression
    assert compression is not None
    agreement: Any = compression.agreement
    assert agreement.mean_cosine > 0.999
    assert agreement.spearman > 0.999
    reference = sentence_transformers.MultiVectorEncoder(str(checkpoint), device="cpu", local_files_only=True)
    scores = np.asarray(reference.similarity(reference.encode_query(TEXTS), reference.encode_document(TEXTS)))
    with MultiVectorEncoder(bundle.path, "cpu") as model:
        actual = model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))
    assert 0 < np.abs(actual - scores).max() < 0.1
