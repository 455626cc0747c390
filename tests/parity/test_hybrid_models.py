"""Models of bge-m3's kind: dense, sparse and multi-vector embeddings of one pass equal the formulas in torch."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from monograph import Bundle, Embedder, ExportError, HybridEmbeddings, InputError
from monograph.bundle import read_probes
from monograph.commands.main import main
from monograph_export import export
from support.hybrid_models import InTorch, save_hybrid
from support.parity import assert_close

OUTPUTS = ["sentence_embedding", "hybrid_embeddings"]
SENTENCE = "seven grey geese flew over the quiet harbour, before the rain began; and nobody in the café looked up."
TEXTS = [
    SENTENCE,
    "a",
    "",
    "the rain, the rain and the rain again",
    "naïve ﬁ 👩‍👩‍👧",
    SENTENCE * 9,
    "</s> <unk> <pad> twice <unk>",
    "a",
]
WEIGHT_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hybrid(tmp_path_factory.mktemp("hybrid"))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> InTorch:
    return InTorch.of(checkpoint)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(checkpoint, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def model(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Embedder]:
    with Embedder(bundle.path, request.param, "float32") as opened:
        yield opened


def assert_equal(actual: HybridEmbeddings, reference: InTorch, texts: list[str]) -> None:
    assert len(actual) == len(actual.sparse) == len(actual.multi_vector) == len(texts)
    for place, text in enumerate(texts):
        dense, weights, vectors = reference.encode(text)
        assert_close(actual.dense[place], dense.numpy())
        assert_close(actual.multi_vector[place], vectors.numpy())
        indices, values = actual.sparse[place]
        assert indices.dtype == np.int32
        assert values.dtype == np.float32
        assert indices.tolist() == sorted(weights)
        np.testing.assert_allclose(values, [weights[token] for token in sorted(weights)], atol=WEIGHT_TOLERANCE)


def test_all_three_equal_torch_alone_and_batched(model: Embedder, reference: InTorch) -> None:
    assert_equal(model.encode_all(TEXTS), reference, TEXTS)
    assert_equal(model.encode_all(TEXTS, batch_size=3), reference, TEXTS)
    for text in TEXTS:
        assert_equal(model.encode_all(text), reference, [text])


def test_a_stream_of_texts_is_encoded_in_blocks(model: Embedder, reference: InTorch) -> None:
    done: list[int] = []
    [block] = model.encode_all_iter(iter(TEXTS), on_texts=done.append)
    assert sum(done) == len(TEXTS)
    assert_equal(block, reference, TEXTS)
    sizes = [len(one) for one in model.encode_all_iter(f"line {place % 7}" for place in range(2050))]
    assert sizes == [2048, 2]
    with pytest.raises(InputError, match="text 2 must be a str, got None"):
        list(model.encode_all_iter(["a", "b", None]))  # type: ignore[list-item]


def test_no_text_has_no_vectors(model: Embedder) -> None:
    nothing = model.encode_all([])
    assert nothing.dense.shape == (0, model.dimension)
    assert nothing.sparse_array().shape == (0, nothing.vocabulary_size)
    assert (nothing.sparse, nothing.multi_vector) == ([], [])


def test_dense_vectors_are_those_of_encode_and_of_sentence_transformers(model: Embedder, checkpoint: Path) -> None:
    original = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    assert_close(model.encode(TEXTS), np.stack([original.encode(text) for text in TEXTS]))
    np.testing.assert_array_equal(model.encode_all(SENTENCE).dense[0], model.encode(SENTENCE))


def test_sparse_vectors_are_a_scipy_array_too(model: Embedder) -> None:
    texts = model.encode_all(TEXTS)
    array = texts.sparse_array()
    assert array.shape == (len(TEXTS), model.manifest.tokenizer.vocabulary_size)
    for row, vector in zip(array.toarray(), texts.sparse, strict=True):
        np.testing.assert_array_equal(row[vector.indices], vector.values)
        assert np.count_nonzero(row) == len(vector.indices)


def test_a_repeated_text_has_arrays_of_its_own(model: Embedder) -> None:
    first, second = model.encode_all(["a boat", "a boat"]).multi_vector
    first[:] = 7
    assert not np.array_equal(first, second)


def test_scores_equal_the_formulas(model: Embedder, reference: InTorch) -> None:
    queries, documents = TEXTS[:4], TEXTS[1:]
    scores = model.hybrid_similarity(model.encode_all(queries), model.encode_all(documents))
    expected = np.array([[reference.scores(query, document) for document in documents] for query in queries])
    dense, lexical, interaction = np.moveaxis(expected, 2, 0)
    np.testing.assert_allclose(scores.dense, dense, atol=1e-4)
    np.testing.assert_allclose(scores.sparse, lexical, atol=1e-4)
    np.testing.assert_allclose(scores.multi_vector, interaction, atol=1e-4)
    np.testing.assert_allclose(scores.dense_sparse, (dense + lexical) / 2, atol=1e-4)
    np.testing.assert_allclose(scores.hybrid, (dense + lexical + interaction) / 3, atol=1e-4)


def test_weights_and_pairs(model: Embedder) -> None:
    queries, documents = model.encode_all(TEXTS[:4]), model.encode_all(TEXTS[3:7])
    matrix = model.hybrid_similarity(queries, documents, weights=(0.4, 0.2, 0.4))
    pairs = model.hybrid_similarity_pairwise(queries, documents, weights=(0.4, 0.2, 0.4))
    for name in ("dense", "sparse", "multi_vector", "dense_sparse", "hybrid"):
        np.testing.assert_allclose(getattr(pairs, name), np.diag(getattr(matrix, name)), atol=1e-6, err_msg=name)
    combined = 0.4 * matrix.dense + 0.2 * matrix.sparse
    np.testing.assert_allclose(matrix.dense_sparse, combined / 0.6, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrix.hybrid, combined + 0.4 * matrix.multi_vector, rtol=1e-5, atol=1e-6)
    alone = model.hybrid_similarity(queries, documents, weights=(0, 0, 2))
    np.testing.assert_allclose(alone.hybrid, matrix.multi_vector, rtol=1e-6)
    assert not alone.dense_sparse.any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1, 1), "weights must be three numbers, for dense, sparse and multi_vector"),
        ((1, -1, 1), "weights must be at least 0"),
        ((0, 0, 0), "weights must be at least 0, and one of them above"),
        ((1, float("nan"), 1), "weights must be at least 0"),
        (None, "weights must be three numbers"),
        ("111", "weights must be three numbers"),
        ({1: 2, 2: 3, 3: 4}, "weights must be three numbers"),
    ],
)
def test_weights_that_are_refused(model: Embedder, weights: Any, message: str) -> None:
    text = model.encode_all("a")
    with pytest.raises(InputError, match=message):
        model.hybrid_similarity(text, text, weights)


@pytest.mark.parametrize("size", [1e-300, 1e-46, 1e39, 1e300])
def test_weights_of_any_size_are_shares(model: Embedder, size: float) -> None:
    text = model.encode_all(TEXTS[:2])
    scores, expected = (model.hybrid_similarity(text, text, (one, one, 0)).hybrid for one in (size, 1))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_embeddings_are_compared_by_identity_and_their_parts_are_of_one_number(model: Embedder) -> None:
    text, same = model.encode_all("a"), model.encode_all("a")
    assert text != same
    with pytest.raises(InputError, match="the parts of documents are of different numbers of texts"):
        model.hybrid_similarity(text, replace(text, sparse=[]))


def test_scores_of_something_else_are_refused(model: Embedder) -> None:
    text = model.encode_all("a")
    with pytest.raises(InputError, match="documents must be what encode_all returns, got ndarray"):
        model.hybrid_similarity(text, text.dense)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="as many queries as documents, got 1, 2"):
        model.hybrid_similarity_pairwise(text, model.encode_all(["a", "b"]))


def test_all_embeddings_are_no_array(model: Embedder) -> None:
    text = model.encode_all("a")
    for compare in (model.similarity, model.similarity_pairwise):
        with pytest.raises(
            InputError, match=r"these are HybridEmbeddings, .*compare them by hybrid_similarity, or give"
        ):
            compare(text, text)
    with pytest.raises(InputError, match="these are HybridEmbeddings"):
        np.asarray(text)


def test_embeddings_of_different_lengths_are_refused(model: Embedder) -> None:
    text = model.encode_all("a")
    with pytest.raises(
        InputError, match="of different models, or truncated to different lengths: encode both with one"
    ):
        model.hybrid_similarity(text, replace(text, dense=text.dense[:, :8]))


def test_the_manifest_describes_the_output_and_probes_prove_each_part(bundle: Bundle) -> None:
    [graph] = bundle.manifest.graphs
    assert list(graph.outputs) == OUTPUTS
    section = bundle.manifest.section
    assert (section.hybrid.dimension, section.hybrid.unweighted_ids) == (24, (0, 1, 2, 3))
    assert [probes.output for probes in read_probes(bundle.path)] == [None, "hybrid_embeddings"]
    for result in bundle.manifest.quality.verifications:
        assert result.passed, result.reason
        parts = {case.case.partition(":")[0] for case in result.cases if "hybrid" in case.case}
        assert parts == {f"hybrid_embeddings ({part})" for part in ("dense", "token weights", "token vectors")}


def test_the_export_says_what_it_exports(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), str(tmp_path / "bundle"), "--quiet"]) == 0
    assert "32 dimensions, and a weight and 24 dimensions for each token" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "bundle")]) == 0
    assert "a weight, and a vector of 24 dimensions" in capsys.readouterr().out


def test_dense_vectors_alone(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle", outputs="sentence_embedding")
    assert list(bundle.manifest.graphs[0].outputs) == OUTPUTS[:1]
    assert bundle.manifest.section.hybrid is None
    with Embedder(bundle.path, "cpu") as model, pytest.raises(InputError, match="encode_all needs a bundle"):
        model.encode_all("a")


@pytest.mark.slow
def test_wide_vectors_of_tokens_half_precision_files_and_a_prompt(tmp_path: Path) -> None:
    checkpoint = save_hybrid(tmp_path, dimension=40, dtype=torch.float16)
    bundle = export(checkpoint, tmp_path / "bundle")
    with Embedder(bundle.path, "cpu") as model:
        reference = InTorch.of(checkpoint)
        assert_equal(model.encode_all(TEXTS), reference, TEXTS)
        assert_equal(model.encode_all(TEXTS[:1], prompt="find: "), reference, [f"find: {TEXTS[0]}"])
        assert model.encode_all("a", task=None).multi_vector[0].shape[1] == 40


@pytest.mark.parametrize(
    "options", [{"precision": "int8-weights"}, pytest.param({"precision": "fp16"}, marks=pytest.mark.slow)], ids=str
)
def test_compressed_bundles_have_all_three(checkpoint: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    # Random weights do not keep to the limits that trained ones do.
    limits: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}
    bundle = export(checkpoint, tmp_path / "bundle", **options, **limits)
    with Embedder(bundle.path, "cpu") as model:
        texts = model.encode_all(TEXTS)
        np.testing.assert_allclose(texts.dense, model.encode(TEXTS), atol=1e-3)
        assert all(map(np.all, map(np.isfinite, texts.multi_vector)))


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file ran",)


def _pickle_with_code(folder: Path) -> None:
    (folder / "sparse_linear.pt").write_bytes(pickle.dumps({"weight": _Code(), "bias": 1}))


def _torch_file_with_code(folder: Path) -> None:
    torch.save({"weight": _Code(), "bias": torch.zeros(1)}, folder / "sparse_linear.pt")


def _other_shape(folder: Path) -> None:
    torch.save(nn.Linear(16, 1).state_dict(), folder / "sparse_linear.pt")


def _no_layer(folder: Path) -> None:
    torch.save({"weight": torch.zeros(24, 32)}, folder / "colbert_linear.pt")


def _truncated(folder: Path) -> None:
    content = (folder / "colbert_linear.pt").read_bytes()
    (folder / "colbert_linear.pt").write_bytes(content[: len(content) // 2])


def _pointer(folder: Path) -> None:
    (folder / "colbert_linear.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "colbert_linear.pt").unlink(), "has sparse_linear.pt and no colbert_linear.pt: down"),
        (lambda folder: (folder / "sparse_linear.pt").unlink(), "has colbert_linear.pt and no sparse_linear.pt: down"),
        (_pickle_with_code, "sparse_linear.pt holds more than tensors and is not loaded"),
        (_torch_file_with_code, "sparse_linear.pt holds more than tensors and is not loaded"),
        (_other_shape, r"sparse_linear.pt must hold weight \[1, 32\] and bias, and has \[1, 16\]"),
        (_no_layer, r"colbert_linear.pt must hold weight \[dimension, 32\] and bias"),
        (_truncated, "colbert_linear.pt cannot be read"),
        (_pointer, "colbert_linear.pt is a Git LFS pointer"),
    ],
)
def test_heads_that_are_refused(
    checkpoint: Path, tmp_path: Path, damage: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    damage(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match=message) as raised:
        export(tmp_path / "checkpoint", tmp_path / "bundle")
    assert "\n" not in str(raised.value)
    assert "code of the file ran" not in capsys.readouterr().out


@pytest.mark.slow
def test_one_head_is_no_obstacle_to_dense_vectors(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "colbert_linear.pt").unlink()
    bundle = export(tmp_path / "checkpoint", tmp_path / "bundle", outputs="sentence_embedding")
    assert bundle.manifest.section.hybrid is None


@pytest.mark.slow
def test_the_output_needs_heads(checkpoint: Path, tmp_path: Path) -> None:
    message = "--outputs hybrid_embeddings needs the folder of a checkpoint with colbert_linear.pt and sparse_linear.pt"
    loaded = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    with pytest.raises(ExportError, match=message):
        export(loaded, tmp_path / "bundle", outputs=OUTPUTS)
    assert list(export(loaded, tmp_path / "dense").manifest.graphs[0].outputs) == OUTPUTS[:1]
