"""Which sparse encoders are exported, which are refused by name, and what their graphs and files hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SpladePooling
from transformers import AutoConfig, AutoModelForMaskedLM

import monograph
from monograph import ExportError, UnsupportedModuleError
from monograph.bundle import read_probes
from monograph.tasks.sparse import SparseAgreement
from monograph_export import export
from monograph_export.graph.splade import PART_TOKENS
from monograph_export.tasks.sparse import SPARSE_EXPORT, active_overlap
from support.architectures import ARCHITECTURES
from support.checkpoints import save_transformer
from support.cpu_features import needs_exact_int8
from support.sparse_encoders import save_inference_free, save_masked_lm, splade_modules


def assert_refused(source: Any, tmp_path: Path, error: type[ExportError], *words: str, **options: Any) -> None:
    with pytest.raises(error) as caught:
        export(source, tmp_path / "bundle", **options)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_a_tied_head_is_in_the_file_once(tiny_sparse_checkpoint: Path, tiny_sparse_bundle: Path) -> None:
    weights = (tiny_sparse_bundle / "model.onnx.data").stat().st_size
    # The head's part of the weights would be nearly as much again.
    assert weights < 1.1 * (tiny_sparse_checkpoint / "model.safetensors").stat().st_size
    graph = ir.load(tiny_sparse_bundle / "model.onnx").graph
    table = graph.initializers["module.0.model.bert.embeddings.word_embeddings.weight"].const_value
    assert isinstance(table, ir.ExternalTensor)
    assert table.offset is not None
    parts = [value.const_value for name, value in graph.initializers.items() if ".parts." in name]
    assert len(parts) == -(-5000 // PART_TOKENS)
    for number, part in enumerate(parts):
        assert isinstance(part, ir.ExternalTensor)
        assert part.offset == table.offset + number * PART_TOKENS * 32 * 4
        assert np.array_equal(part.numpy(), table.numpy()[number * PART_TOKENS : (number + 1) * PART_TOKENS])


def test_no_value_of_the_graph_has_the_whole_vocabulary_for_each_token(tiny_sparse_bundle: Path) -> None:
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tiny_sparse_bundle / "model.onnx"), strict_mode=True)
    shapes = [[axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info]
    # The axes of texts and tokens have no size.
    of_tokens = [shape for shape in shapes if len(shape) == 3 and shape[:2] == [0, 0]]
    assert max(width for *_, width in of_tokens) == PART_TOKENS


def test_probes_keep_only_what_is_not_zero(tiny_sparse_bundle: Path) -> None:
    stored = json.loads((tiny_sparse_bundle / "probes.json").read_text())["vectors"]
    vectors = read_probes(tiny_sparse_bundle)[0].vectors
    assert vectors.shape == tuple(stored["shape"])
    assert sum(stored["counts"]) == np.count_nonzero(vectors) < vectors.size / 2


def test_a_loaded_model_is_exported_and_left_as_it_is(tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    model: Any = SparseEncoder(
        str(tiny_sparse_checkpoint), device="cpu", local_files_only=True, max_active_dims=4, similarity_fn_name="cosine"
    )
    before = model.encode(["a goose"]).to_dense()
    bundle = export(model, tmp_path / "bundle")
    sparse = bundle.manifest.section
    assert (sparse.dimension, sparse.similarity, sparse.max_active_dims) == (5000, "cosine", 4)
    assert (model.encode(["a goose"]).to_dense() == before).all()
    with monograph.SparseEncoder(bundle.path, "cpu") as ours:
        assert np.abs(ours.encode(["a goose"]).toarray() - before.numpy()).max() <= 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"table": "int8"},
        pytest.param({"precision": "fp16"}, marks=pytest.mark.slow),
        pytest.param({"precision": "int8"}, marks=needs_exact_int8),
    ],
)
@pytest.mark.slow
def test_compressed_models_are_measured(options: dict[str, Any], tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_sparse_checkpoint, tmp_path / "bundle", **options)
    assert bundle.manifest.quality.verifications[0].passed
    compression = bundle.manifest.quality.compression
    assert compression is not None
    assert isinstance(compression.agreement, SparseAgreement)
    assert 0.8 <= compression.agreement.active_overlap < 1
    assert compression.agreement.mean_cosine >= 0.99
    size = (tiny_sparse_checkpoint / "model.safetensors").stat().st_size
    assert (bundle.path / "model.onnx.data").stat().st_size < 0.7 * size


def test_a_stricter_limit_refuses_and_says_by_how_much(tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    words = ("active overlap", "below 0.9999")
    assert_refused(tiny_sparse_checkpoint, tmp_path, ExportError, *words, table="int8", min_active_overlap=0.9999)


def test_vectors_without_an_active_dimension_are_alike() -> None:
    vectors = np.array([[1, 0], [0, 0], [0, 2]], np.float32)
    assert SPARSE_EXPORT.agreement(vectors, vectors).worst_cosine == 1
    assert SPARSE_EXPORT.agreement(vectors, vectors[[0, 2, 2]]).worst_cosine == 0


def test_overlap_counts_the_dimensions_of_either() -> None:
    first = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    second = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert active_overlap(first, second) == pytest.approx((1 / 3 + 1 + 1) / 3)


@pytest.mark.parametrize("options", [{"keep_scripts": "Latn"}, {"recipe": "LaBSE"}])
def test_what_changes_the_vocabulary_is_refused(
    options: dict[str, Any], tiny_sparse_checkpoint: Path, tmp_path: Path
) -> None:
    assert_refused(tiny_sparse_checkpoint, tmp_path, ExportError, "this is a sparse encoder", **options)


def test_limits_are_for_their_own_task(
    tiny_sparse_checkpoint: Path, tiny_checkpoint: Path, tiny_cross_checkpoint: Path, tmp_path: Path
) -> None:
    words = ("--max-score-move", "this is a sparse encoder")
    assert_refused(tiny_sparse_checkpoint, tmp_path, ExportError, *words, max_score_move=0.2)
    words = ("--min-active-overlap", "this is an embedding model")
    assert_refused(tiny_checkpoint, tmp_path, ExportError, *words, min_active_overlap=0.9)
    words = ("--min-active-overlap", "this is a cross-encoder")
    assert_refused(tiny_cross_checkpoint, tmp_path, ExportError, *words, min_active_overlap=0.9)


def test_a_router_is_exported_as_it_is(tmp_path: Path) -> None:
    checkpoint = save_inference_free(tmp_path / "model")
    assert_refused(checkpoint, tmp_path, ExportError, "a model with a Router", "--precision int8", precision="int8")


def test_another_task_is_refused(tiny_sparse_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert_refused(tiny_sparse_checkpoint, tmp_path, ExportError, "is a sparse encoder", task="embedding")
    assert_refused(tiny_checkpoint, tmp_path, ExportError, "is an embedding model", task="sparse")


def test_a_bare_model_without_a_head_is_refused(tmp_path: Path) -> None:
    config = dict(ARCHITECTURES["BERT"].config)
    body = save_transformer(config, ARCHITECTURES["BERT"].tokenizer(), tmp_path / "body")
    assert_refused(body, tmp_path, ExportError, "is an embedding model", task="sparse")


def test_autoencoders_are_refused_by_name(tmp_path: Path) -> None:
    body = save_masked_lm("BERT", tmp_path / "body")
    transformer = Transformer(str(body), config_kwargs={"local_files_only": True})
    modules = [transformer, Pooling(32, "mean"), SparseAutoEncoder(32, 64)]
    model = SparseEncoder(modules=modules, device="cpu")
    assert_refused(model, tmp_path, UnsupportedModuleError, "SparseAutoEncoder")
    model.save_pretrained(str(tmp_path / "checkpoint"), create_model_card=False)
    assert_refused(tmp_path / "checkpoint", tmp_path, UnsupportedModuleError, "SparseAutoEncoder", "SpladePooling")


def test_modules_behind_the_pooling_are_refused(tmp_path: Path) -> None:
    modules = [*splade_modules("BERT", tmp_path / "body"), Normalize()]
    assert_refused(SparseEncoder(modules=modules, device="cpu"), tmp_path, UnsupportedModuleError, "Normalize")


def test_a_head_that_goes_on_behind_its_decoder_is_refused(tmp_path: Path) -> None:
    transformer, pooling = splade_modules("BERT", tmp_path / "body")
    transformer.auto_model.cls.register_forward_hook(lambda _module, _given, logits: logits.tanh())
    model = SparseEncoder(modules=[transformer, pooling], device="cpu")
    assert_refused(model, tmp_path, UnsupportedModuleError, "does not end in its linear layer")


def test_a_head_that_reads_the_weights_of_its_decoder_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32}
    settings = {**sizes, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 1000}
    model: Any = AutoModelForMaskedLM.from_config(AutoConfig.for_model("mobilebert", **settings))
    model.save_pretrained(tmp_path / "body")
    ARCHITECTURES["BERT"].tokenizer().save_pretrained(tmp_path / "body")
    words = ("MobileBertForMaskedLM", "does not end in its linear layer")
    assert_refused(tmp_path / "body", tmp_path, UnsupportedModuleError, *words, task="sparse")


@pytest.mark.parametrize("key", ["pooling_strategy", "activation_function"])
def test_a_pooling_of_settings_that_nobody_knows_is_refused(
    key: str, tiny_sparse_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_sparse_checkpoint, tmp_path / "copy"))
    file = folder / "1_SpladePooling" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: "other"}))
    assert_refused(folder, tmp_path, UnsupportedModuleError, "SpladePooling", f"{key} 'other'")


def test_weights_of_another_place_are_refused(tmp_path: Path) -> None:
    checkpoint = save_inference_free(tmp_path / "model")
    [folder] = checkpoint.glob("query*")
    (folder / "config.json").write_text(json.dumps({"frozen": False, "path": "/etc/idf.json"}))
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "SparseStaticEmbedding", "setting path")


def test_a_head_that_was_never_trained_is_refused(tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sparse_checkpoint, tmp_path / "copy"))
    file = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if "transform" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    assert_refused(folder, tmp_path, ExportError, "incomplete", "transform")


def test_two_poolings_are_refused(tmp_path: Path) -> None:
    transformer, pooling = splade_modules("BERT", tmp_path / "body")
    model = SparseEncoder(modules=[transformer, pooling, SpladePooling("max")], device="cpu")
    assert_refused(model, tmp_path, UnsupportedModuleError, "SpladePooling")
