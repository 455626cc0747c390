"""Attention as one operator that takes lengths, for GPUs: run on the CPU, which has a kernel of it too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from monograph_export import export
from monograph_export.graph.passes import fused_for_gpus


def padded(lengths: Sequence[int], width: int, names: Iterable[str]) -> dict[str, NDArray[np.int64]]:
    """Ids of texts of these lengths, padded on the right."""
    mask = (np.arange(width) < np.array(lengths)[:, np.newaxis]).astype(np.int64)
    ids = np.random.default_rng(0).integers(5, 900, mask.shape) * mask
    known = {"input_ids": ids, "attention_mask": mask}
    return {name: known.get(name, np.zeros_like(mask)) for name in names}


def operators(file: Path) -> list[str]:
    """What a graph does with texts, without the turning of its weights."""
    nodes = ir.load(file).graph
    return [node.op_type for node in nodes if node.inputs[0] is None or not node.inputs[0].is_initializer()]


def session(file: Path) -> Any:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("bundle", ["tiny_bundle", "tiny_cross_bundle", "minilm_bundle"])
def test_it_gives_the_same_and_heeds_lengths(bundle: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Rules G1 to G3: of attention that is written out nothing is left."""
    written_out = request.getfixturevalue(bundle) / "model.onnx"
    fused = fused_for_gpus(ir.load(written_out))
    assert fused is not None
    file = tmp_path / "fused.onnx"
    ir.save(fused, file, external_data="fused.data")
    softmaxes = operators(written_out).count("Softmax")
    assert operators(file).count("MultiHeadAttention") == softmaxes > 0
    assert operators(file).count("MatMul") == operators(written_out).count("MatMul") - 2 * softmaxes
    assert not {"Softmax", "Transpose", "Reshape"} & set(operators(file))
    before, after = session(written_out), session(file)
    inputs = padded((1, 24, 7, 15, 2), 24, [value.name for value in before.get_inputs()])
    expected = before.run(None, inputs)[0]
    np.testing.assert_allclose(after.run(None, inputs)[0], expected, atol=1e-6)
    # With every length the whole width, the texts of one token and of seven are others.
    whole = after.run(None, inputs | {"attention_mask": np.ones_like(inputs["attention_mask"])})[0]
    assert np.abs(whole - expected).max() > 1e-3


def test_attention_of_another_mask_is_left() -> None:
    """T5's distances, causal masks and windows are added too, and are no lengths."""
    model = ir.from_proto(
        onnx.shape_inference.infer_shapes(
            onnx.parser.parse_model(
                """<ir_version: 10, opset_import: ["" : 23]>
                g (float[b, 2, s, 4] q, float[b, 2, s, 4] k, float[b, 2, s, 4] v, float[b, 1, s, s] other)
                    => (float[b, 2, s, 4] out) {
                    turned = Transpose <perm = [0, 1, 3, 2]> (k)
                    product = MatMul (q, turned)
                    added = Add (product, other)
                    weights = Softmax <axis = -1> (added)
                    out = MatMul (weights, v)
                }"""
            )
        )
    )
    before = [node.op_type for node in model.graph]
    assert fused_for_gpus(model) is None
    assert [node.op_type for node in model.graph] == before


@pytest.mark.slow
def test_a_float16_bundle_has_a_graph_for_gpus_with_the_same_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "bundle", precision="fp16")
    first, second = bundle.manifest.graphs
    assert ("cuda" in first.devices, second.devices) == (False, ("cuda",))
    # One small mask, of which lengths can take the place, in float16 too.
    assert "GatherND" not in operators(bundle.path / first.file)
    assert second.op_domains == ("ai.onnx", "com.microsoft")
    assert "MultiHeadAttention" in operators(bundle.path / second.file)
    weights = [file for file in bundle.manifest.files if file.endswith(".data")]
    assert weights == ["model.onnx.data"]
    assert bundle.manifest.files["model.cuda.onnx"].bytes < 100_000


def test_a_float32_bundle_has_one_graph_for_all_devices(tiny_bundle: Path) -> None:
    assert not (tiny_bundle / "model.cuda.onnx").exists()
