"""Modules appended to an encoder's ONNX file equal sentence-transformers at batch size 1, and need no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from monograph import Bundle, Embedder
from monograph.bundle import open_bundle
from monograph_export import export
from monograph_export.from_onnx.tokenizer import read_tokenizer
from monograph_export.probe_texts import probe_sentences
from support import checkpoints, encoders
from support.parity import assert_close

TEXTS = [*probe_sentences()[:20], "", "one", "MANY Words " * 60]
# Packages that an export from an ONNX file must not import, guarded or not.
FORBIDDEN = ("torch", "transformers", "sentence_transformers", "onnxscript", "scipy")
GRAPH = "onnx/model.onnx"
MODULE = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    return checkpoints.save_transformer(checkpoints.TINY_BERT, checkpoints.wordpiece(1000, lowercase=True), folder)


@pytest.fixture(scope="module")
def encoder(transformer: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The encoder of that transformer as an ONNX file of an opset, each made once."""
    folder = tmp_path_factory.mktemp("encoders")

    def made(opset: int) -> Path:
        file = folder / f"{opset}.onnx"
        return file if file.exists() else encoders.save_encoder(transformer, file, opset=opset)

    return made


@pytest.fixture(scope="module")
def tiny_encoder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.save_encoder(tiny_checkpoint, tmp_path_factory.mktemp("encoder") / "model.onnx")


def saved(model: SentenceTransformer, folder: Path) -> Path:
    model.save(str(folder), create_model_card=False)
    return folder


def assert_equal_to_torch(bundle: Bundle, model: SentenceTransformer) -> None:
    assert all(result.passed for result in bundle.manifest.quality.verifications)
    expected = model.encode(TEXTS, batch_size=1, show_progress_bar=False)
    with Embedder(bundle.path, device="cpu") as embedder:
        assert_close(embedder.encode(TEXTS), expected)


def layer(activation: str, width: int, wide: int, **more: Any) -> dict[str, Any]:
    return {"in_features": width, "out_features": wide, "activation": activation, **more}


# The lowest opset, where axes are attributes; one where only ReduceSum has them as an input; and one where all have.
@pytest.mark.parametrize("opset", [11, pytest.param(14, marks=pytest.mark.slow), 18])
def test_every_pooling_mode(opset: int, transformer: Path, encoder: Callable[[int], Path], tmp_path: Path) -> None:
    model = checkpoints.build_model(transformer, max_length=64, pooling=Pooling.POOLING_MODES, normalize=False)
    checkpoint = saved(model, tmp_path / "checkpoint")
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=encoder(opset))
    graph = bundle.manifest.graphs[0]
    assert (graph.precision, graph.max_batch_size, graph.op_domains, graph.opset) == ("fp32", None, ("ai.onnx",), opset)
    assert graph.outputs["sentence_embedding"].shape == ("batch", 6 * 32)
    assert_equal_to_torch(bundle, model)


@pytest.mark.parametrize("opset", [pytest.param(11, marks=pytest.mark.slow), 18])
def test_dense_layer_norm_dropout_and_normalize(
    opset: int, transformer: Path, encoder: Callable[[int], Path], tmp_path: Path
) -> None:
    layers = [
        layer("Tanh", 64, 48, use_residual=True),
        layer("GELU", 48, 48, bias=False, use_residual=True),
        *(layer(name, 48, 48) for name in ("SiLU", "Sigmoid", "ReLU")),
        layer("Identity", 48, 16, bias=False),
    ]
    model = checkpoints.build_model(transformer, max_length=64, pooling=("lasttoken", "mean"), dense=layers)
    norm = LayerNorm(64)
    with torch.no_grad():
        norm.norm.weight.normal_(1, 0.3)
        norm.norm.bias.normal_(0, 0.3)
    model.insert(2, Dropout(0.5))
    model.insert(3, norm)
    checkpoint = saved(model, tmp_path / "checkpoint")
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=encoder(opset))
    assert bundle.manifest.section.normalized
    assert_equal_to_torch(bundle, model)


def test_the_old_spelling(transformer: Path, encoder: Callable[[int], Path], tmp_path: Path) -> None:
    """In which the order of the flags, not of the modes, is that of the columns."""
    model = checkpoints.build_model(
        transformer, max_length=64, pooling=("weightedmean", "cls"), dense=[layer("Tanh", 64, 8)]
    )
    checkpoint = checkpoints.respell_as_legacy(saved(model, tmp_path / "checkpoint"))
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=encoder(14))
    assert_equal_to_torch(bundle, SentenceTransformer(str(checkpoint), device="cpu"))


def test_a_bare_transformer_gets_mean_pooling(
    transformer: Path, encoder: Callable[[int], Path], tmp_path: Path
) -> None:
    bundle = export(transformer, tmp_path / "bundle", from_onnx=encoder(14))
    assert_equal_to_torch(bundle, SentenceTransformer(str(transformer), device="cpu"))


def test_other_outputs_and_what_only_they_need_are_dropped(transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.build_model(transformer, max_length=64)
    checkpoint = saved(model, tmp_path / "checkpoint")
    outputs = ("token_embeddings", "sentence_embedding")
    encoders.save_encoder(transformer, checkpoint / GRAPH, inputs=("input_ids", "attention_mask"), outputs=outputs)
    # A path within the checkpoint.
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=GRAPH)
    assert set(bundle.manifest.graphs[0].inputs) == {"input_ids", "attention_mask"}
    assert set(bundle.manifest.source.sha256) == {"model.safetensors", GRAPH}
    assert_equal_to_torch(bundle, model)


def test_weights_beside_the_file_may_be_links(
    transformer: Path, encoder: Callable[[int], Path], tmp_path: Path
) -> None:
    """As huggingface_hub's cache has them: the name leads to a blob elsewhere."""
    blobs, snapshot = tmp_path / "models--org--name" / "blobs", tmp_path / "models--org--name" / "snapshots" / "1234"
    blobs.mkdir(parents=True)
    (snapshot / "onnx").mkdir(parents=True)
    onnx.save(onnx.load(encoder(14)), blobs / "graph", save_as_external_data=True, location="model.onnx_data")
    (blobs / "model.onnx_data").rename(blobs / "weights")
    (snapshot / GRAPH).symlink_to(blobs / "graph")
    (snapshot / "onnx" / "model.onnx_data").symlink_to(blobs / "weights")
    bundle = export(transformer, tmp_path / "bundle", from_onnx=snapshot / GRAPH)
    assert set(bundle.manifest.source.sha256) == {"model.safetensors", "model.onnx", "model.onnx_data"}
    assert_equal_to_torch(bundle, SentenceTransformer(str(transformer), device="cpu"))


@pytest.mark.usefixtures("verified_on_every_engine")
def test_its_manifest_says_what_that_of_the_traced_bundle_says(
    tiny_checkpoint: Path, tiny_encoder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle, traced = export(tiny_checkpoint, tmp_path / "bundle", from_onnx=tiny_encoder), open_bundle(tiny_bundle)
    manifest, expected = bundle.manifest, traced.manifest
    for name in ("task", "tokenizer", "section", "prompts", "default_prompt_name"):
        assert getattr(manifest, name) == getattr(expected, name), name
    assert manifest.quality.reference.startswith("ONNX Runtime")
    assert manifest.quality.encoder_file == tiny_encoder.name
    assert "torch" not in manifest.producer
    assert manifest.graphs[0].parts["table"] == expected.graphs[0].parts["table"]
    results, others = (
        [(result.device, result.compute_dtype, result.passed) for result in one.quality.verifications]
        for one in (manifest, expected)
    )
    assert results == others
    with Embedder(bundle.path, device="cpu") as one, Embedder(traced.path, device="cpu") as other:
        assert np.abs(one.encode(TEXTS) - other.encode(TEXTS)).max() <= 1e-6


@pytest.mark.parametrize("command", [["-m", "monograph", "export"]])
def test_it_needs_no_torch(command: list[str], tiny_checkpoint: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    for name in FORBIDDEN:
        (tmp_path / "stubs" / name).mkdir(parents=True)
        (tmp_path / "stubs" / name / "__init__.py").write_text("raise AssertionError(__name__ + ' was imported')\n")
    path = os.pathsep.join([str(tmp_path / "stubs"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command, tiny_checkpoint, tmp_path / "bundle", "--from-onnx", tiny_encoder],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "float32: equal to model.onnx with its modules in NumPy" in done.stdout


@pytest.fixture(scope="module")
def int8_bundle(tiny_checkpoint: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("int8")
    quantize_dynamic(tiny_encoder, folder / "model_quint8.onnx")
    return export(tiny_checkpoint, folder / "bundle", from_onnx=folder / "model_quint8.onnx")


def test_a_text_s_vector_depends_on_no_neighbour_where_ranges_are_set_at_run_time(int8_bundle: Bundle) -> None:
    graph = int8_bundle.manifest.graphs[0]
    assert (graph.precision, graph.max_batch_size) == ("int8", 1)
    with Embedder(int8_bundle.path, device="cpu") as model:
        alone = np.stack([model.encode(text) for text in TEXTS])
        for size in (None, 8):
            np.testing.assert_array_equal(model.encode(TEXTS, batch_size=size), alone)


def test_such_a_graph_is_verified_as_it_is_run(int8_bundle: Bundle, tiny_checkpoint: Path) -> None:
    result = next(result for result in int8_bundle.manifest.quality.verifications if result.device == "cpu")
    assert result.tolerance.min_cosine == 0.99
    assert [case.case for case in result.cases] == ["alone, unpadded", "batched by length"]
    expected = SentenceTransformer(str(tiny_checkpoint), device="cpu").encode(TEXTS, batch_size=1)
    with Embedder(int8_bundle.path, device="cpu") as model:
        assert (model.encode(TEXTS) * expected).sum(axis=1).min() > 0.95


def test_a_float16_encoder_is_pooled_at_float32(transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.build_model(transformer, max_length=64, pooling=("mean", "max"))
    checkpoint = saved(model, tmp_path / "checkpoint")
    encoders.save_encoder(transformer, checkpoint / GRAPH, half=True)
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=GRAPH)
    assert bundle.manifest.graphs[0].precision == "fp16"
    assert bundle.manifest.graphs[0].outputs["sentence_embedding"].dtype == "float32"
    expected = model.encode(TEXTS, batch_size=1)
    with Embedder(bundle.path, device="cpu") as embedder:
        assert (embedder.encode(TEXTS) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize(
    ("body", "tokenizer", "positions"),
    [
        ({"max_seq_length": 20}, {}, 300),
        ({"max_seq_length": 20, "do_lower_case": True}, {}, 300),
        ({}, {"model_max_length": 40}, 300),
        ({}, {"model_max_length": 512}, 30),
        ({}, {"model_max_length": 1e30}, 30),
        ({"max_seq_length": None}, {"truncation_side": "left", "model_max_length": 16}, 300),
        ({"max_seq_length": 20}, {"do_lower_case": True}, 300),
        ({"max_seq_length": 20}, {"strip_accents": True}, 300),
        ({"max_seq_length": 24}, {"pad_token": "[MASK]"}, 300),
    ],
)
def test_the_tokenizer_is_set_up_as_sentence_transformers_does(
    body: dict[str, Any], tokenizer: dict[str, Any], positions: int, tmp_path: Path
) -> None:
    config = {**checkpoints.TINY_BERT, "max_position_embeddings": positions}
    folder = checkpoints.save_transformer(config, checkpoints.wordpiece(1000, lowercase=False), tmp_path / "model")
    own = folder / "tokenizer_config.json"
    own.write_text(json.dumps({**json.loads(own.read_text()), **tokenizer}))
    (folder / "modules.json").write_text(json.dumps([MODULE]))
    (folder / "sentence_bert_config.json").write_text(json.dumps(body))
    model = SentenceTransformer(str(folder), device="cpu")
    read = read_tokenizer(folder, body)
    assert (read.max_length, read.truncation_side) == (model.max_seq_length, model.tokenizer.truncation_side)
    assert read.pad_id == model.tokenizer.pad_token_id
    spec = read.store(tmp_path, None)
    assert spec.max_length == model.max_seq_length
    stored = read.tokenizer.from_file(str(tmp_path / spec.file))
    for text in TEXTS:
        assert stored.encode(text).ids == model.preprocess([text])["input_ids"][0].tolist(), text
