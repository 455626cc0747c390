"""A transformer of float16: near the original, small, and safe where float16 would be infinite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sentence_transformers import SentenceTransformer

from monograph import Embedder
from monograph.errors import ExportError
from monograph.similarity import similarity_pairwise
from monograph_export import export
from monograph_export.compression.float16 import halve
from monograph_export.probe_texts import probe_sentences
from support import checkpoints
from support.command import monograph

TEXTS = [*probe_sentences()[:12], "", "many words " * 90]
# Behind the last norm of the tiny model: 200 tokens of 2,000 each are more than float16 holds, as is one squared.
LARGE = 2000.0


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    transformer = checkpoints.save_transformer(
        checkpoints.TINY_BERT, checkpoints.wordpiece(1000, lowercase=True), tmp_path / "transformer"
    )
    return checkpoints.build_model(transformer, max_length=250)


def last_norm(model: SentenceTransformer) -> torch.nn.LayerNorm:
    norm: torch.nn.LayerNorm = model[0].auto_model.encoder.layer[-1].output.LayerNorm
    return norm


@pytest.mark.parametrize("table", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_sums_and_norms_beyond_float16_are_right(model: SentenceTransformer, tmp_path: Path, table: str) -> None:
    with torch.no_grad():
        last_norm(model).weight.mul_(LARGE)
        last_norm(model).bias.mul_(LARGE)
    bundle = export(model, tmp_path / "bundle", precision="fp16", table=table)
    expected = model.encode(TEXTS, batch_size=1)
    assert np.abs(expected).max() > 0.1
    for device in ("cpu", "openvino"):
        with Embedder(bundle.path, device, "float32") as embedder:
            vectors = embedder.encode(TEXTS)
        assert vectors.dtype == np.float32
        assert similarity_pairwise("cosine", vectors, expected).min() >= 0.999
    assert bundle.manifest.graphs[0].precision == "fp16"
    assert all(result.tolerance.min_cosine == 0.999 for result in bundle.manifest.quality.verifications)
    words = monograph("info", bundle.path).stdout.decode()
    assert f"table {'int8' if table == 'int8' else 'fp16'}, layers fp16; on ONNX Runtime" in words


def test_weights_take_half_the_space(model: SentenceTransformer, tmp_path: Path) -> None:
    bundle = export(model, tmp_path / "bundle", precision="fp16")
    graph = onnx.load(bundle.path / "model.onnx", load_external_data=False).graph
    floats = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) > 100]
    assert floats == []
    whole = sum(parameter.nbytes for parameter in model.parameters())
    assert (bundle.path / "model.onnx.data").stat().st_size < 0.55 * whole


def test_a_model_whose_layers_pass_what_float16_holds_is_refused(model: SentenceTransformer, tmp_path: Path) -> None:
    with torch.no_grad():
        last_norm(model).weight.mul_(1e5)
    with pytest.raises(ExportError, match="too far from the original: mean cosine nan is below"):
        export(model, tmp_path / "bundle", precision="fp16")
    assert not (tmp_path / "bundle").exists()


def test_tables_of_rotary_positions_stay_float32(tmp_path: Path) -> None:
    config = {
        "model_type": "modernbert", "vocab_size": 1200, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 512, "pad_token_id": 0,
    }  # fmt: skip
    transformer = checkpoints.save_transformer(config, checkpoints.wordpiece(1000, lowercase=True), tmp_path / "t")
    model = checkpoints.build_model(transformer, max_length=500)
    before = model.encode("many words " * 300)
    halve(model)
    encoder = model[0].auto_model
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float16}
    assert {buffer.dtype for buffer in encoder.buffers() if buffer.is_floating_point()} == {torch.float32}
    assert similarity_pairwise("cosine", before, model.encode("many words " * 300)).min() >= 0.9999


def test_calibration_is_not_for_float16(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="for --precision int8"):
        export(model, tmp_path / "bundle", precision="fp16", reduce_range=True)
