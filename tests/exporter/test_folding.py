"""What depends on weights alone is computed at the export, and weights of products stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from sentence_transformers import SentenceTransformer

from monograph_export.graph.passes import apply_passes
from monograph_export.graph.passes.folding import FoldConstants
from monograph_export.graph.trace import trace
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support.architectures import ARCHITECTURES

GRAPH = """<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,2] x) => (float[batch,2] out)
<float[2,2] table = {1, 2, 3, 5}, float[2] scale = {1, 2}, float[2,2] weight = {1, 0, 2, 3},
 int8[2,2] small = {1, 2, 3, 4}, float step = {0.5}> {
    normal = LayerNormalization (table, scale)
    turned = Transpose <perm = [1, 0]> (weight)
    distances = MatMul (normal, turned)
    far = MatMul (x, distances)
    widened = DequantizeLinear (small, step)
    moved = Add (widened, table)
    near = MatMul (x, moved)
    again = Transpose <perm = [1, 0]> (weight)
    layer = MatMul (x, again)
    sums = Add (far, near)
    out = Add (sums, layer)
}"""


def constant_nodes(model: ir.Model) -> list[ir.Node]:
    weights = set(model.graph.initializers.values())
    return [node for node in model.graph if all(value is None or value in weights for value in node.inputs)]


def ran(model: ir.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return np.asarray(next(iter(ReferenceEvaluator(proto).run(None, {"x": x}))))


def test_what_depends_on_weights_alone_becomes_a_constant() -> None:
    """Rules C1 to C3."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH)))
    x = np.array([[1, 2], [3, -1], [0.5, 4]], dtype=np.float32)
    before = ran(model, x)
    folded = ir.passes.common.RemoveUnusedNodesPass()(FoldConstants()(model).model).model
    assert sorted(node.op_type for node in constant_nodes(folded)) == ["DequantizeLinear", "Transpose"]
    kinds = [node.op_type for node in folded.graph]
    assert "LayerNormalization" not in kinds
    assert kinds.count("MatMul") == 3
    np.testing.assert_allclose(ran(folded, x), before, rtol=1e-6)
    assert not FoldConstants()(folded).modified


@pytest.mark.slow
def test_no_run_computes_deberta_s_table_of_distances(tmp_path: Path) -> None:
    """Larger than what onnxscript's optimiser folds."""
    deberta = ARCHITECTURES["DeBERTa-v2"]
    deberta = replace(deberta, config={**deberta.config, "position_buckets": 256})
    model = apply_passes(trace(SentenceTransformer(str(deberta.save(tmp_path)), device="cpu"), EMBEDDING_EXPORT))
    for node in constant_nodes(model):
        assert node.op_type == "Transpose"
        assert {user.op_type for user in node.outputs[0].consumers()} == {"MatMul"}
