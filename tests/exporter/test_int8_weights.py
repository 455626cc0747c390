"""Int8 weights under float32 inputs: what a layer is, which layers there are, and what a bundle of them says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from monograph import CrossEncoder, Embedder, SparseEncoder
from monograph.bundle import open_bundle
from monograph.errors import ExportError
from monograph_export import compare_bundles, export
from monograph_export.compression.int8_weights import GroupedInt8Linear, group_size_of
from support.command import monograph
from support.verification import verified_on_every_engine


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with verified_on_every_engine():
        return export(
            tiny_checkpoint, tmp_path_factory.mktemp("int8-weights") / "bundle", precision="int8-weights"
        ).path


@pytest.mark.parametrize(
    ("in_features", "size"), [(16, 8), (32, 16), (64, 32), (312, 52), (384, 64), (1536, 64), (37, 37), (14, 14)]
)
def test_a_scale_is_shared_by_a_divisor_of_the_inputs(in_features: int, size: int) -> None:
    assert group_size_of(in_features) == size


def test_a_weight_is_rounded_to_half_a_step_of_its_group() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 24)
    linear.weight.data *= torch.logspace(-3, 2, 2).repeat_interleave(64)
    layer = GroupedInt8Linear(linear)
    assert (layer.weight.dtype, layer.weight.shape, layer.weight_scale.shape) == (torch.int8, (128, 24), (2, 24))
    steps = layer.weight_scale.repeat_interleave(64, dim=0)
    assert bool(((layer.weight * steps - linear.weight.t()).abs() <= steps / 2 * 1.001).all())


@pytest.mark.parametrize("shape", [(24, 16), (37, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_traced_as_it_computes(shape: tuple[int, int], bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = GroupedInt8Linear(nn.Linear(*shape, bias=bias)).eval()
    values = torch.randn(2, 5, shape[0])
    program = torch.onnx.export(layer, (values,), dynamo=True, opset_version=23, verbose=False)
    assert program is not None
    program.save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "layer.onnx"))
    [outputs] = session.run(None, {session.get_inputs()[0].name: values.numpy()})
    assert np.abs(outputs - layer(values).detach().numpy()).max() <= 1e-5


def test_a_bundle_says_what_was_done_and_is_equal_to_torch_at_float32(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["graphs"][0]["precision"] == "int8-weights"
    compression = manifest["compression"]
    assert compression["table"] == "int8"
    assert compression["limits"] == {"mean_cosine": 0.999, "worst_cosine": 0.99, "neighbour_agreement": 0.88}
    assert (compression["layers"]["precision"], compression["layers"].get("calibration")) == ("int8-weights", None)
    verifications = json.loads((bundle / "measurements.json").read_text())["verifications"]
    assert {one["engine"] for one in verifications if one["compute_dtype"] == "float32"} == {"onnxruntime", "openvino"}
    assert all(one["passed"] for one in verifications)
    assert all(one["tolerance"]["exact"] for one in verifications if one["compute_dtype"] == "float32")
    printed = monograph("info", bundle).stdout.decode()
    for words in ("int8-weights, opset 23", "table int8, layers int8-weights"):
        assert words in printed


def test_a_graph_rounds_no_input_and_has_no_layer_of_float32(bundle: Path) -> None:
    """So that GPUs and browsers run it: WebGPU has no QuantizeLinear."""
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    operators = [node.op_type for node in graph.node]
    assert "QuantizeLinear" not in operators
    assert operators.count("DequantizeLinear") == 6
    # Of the two-dimensional ones only the table of positions: the model's Dense comes after its transformer.
    floats = [one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 2]
    assert not [name for name in floats if ".layer." in name and not name.endswith("_scale")]


def test_the_vectors_are_near_the_original_on_each_engine(bundle: Path, tiny_bundle: Path) -> None:
    texts = [f"text {'of some words ' * (i % 7)}{i}" for i in range(64)]
    reference = Embedder(tiny_bundle, device="cpu").encode(texts)
    for device in ("cpu", "openvino"):
        vectors = Embedder(bundle, device=device, threads=2).encode(texts)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
        assert float(((vectors * reference).sum(axis=1) / norms).min()) >= 0.999


@pytest.mark.slow
def test_it_is_reproduced(bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    again = export(tiny_checkpoint, tmp_path / "again", precision="int8-weights")
    assert not compare_bundles(again, open_bundle(bundle)).differing


@pytest.mark.slow
def test_the_table_may_stay_float32(tiny_checkpoint: Path, tmp_path: Path) -> None:
    written = export(tiny_checkpoint, tmp_path / "bundle", precision="int8-weights", table="fp32")
    assert written.manifest.quality.compression is not None
    assert written.manifest.quality.compression.table == "fp32"


@pytest.mark.slow
def test_cross_encoders_keep_their_head(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    path = export(tiny_cross_checkpoint, tmp_path / "bundle", precision="int8-weights").path
    assert CrossEncoder(path, device="cpu").predict([("a question", "an answer")]).shape == (1,)
    graph = onnx.load(path / "model.onnx", load_external_data=False).graph
    assert [node.op_type for node in graph.node].count("DequantizeLinear") == 6


@pytest.mark.slow
def test_sparse_encoders_have_them(tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    path = export(tiny_sparse_checkpoint, tmp_path / "bundle", precision="int8-weights").path
    assert SparseEncoder(path, device="cpu").encode(["a text"]).shape[0] == 1


@pytest.mark.parametrize("options", [{"calibration": __file__}, {"reduce_range": True}])
def test_options_of_ranges_are_refused(options: dict[str, Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="are for --precision int8 only"):
        export(tiny_checkpoint, tmp_path / "bundle", precision="int8-weights", **options)


def test_a_loss_above_a_limit_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"mean cosine .* is below 1\.0.*choose --precision fp32"):
        export(tiny_checkpoint, tmp_path / "bundle", precision="int8-weights", min_mean_cosine=1.0)
