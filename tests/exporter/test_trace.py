"""What the traced graph has before the passes."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from sentence_transformers import SentenceTransformer
from torch import nn

from monograph_export.graph.trace import trace
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support import checkpoints


def test_layers_weights_stay_as_torch_has_them(tmp_path: Path) -> None:
    """Transposed in the file, they are a copy more in OpenVINO, which transposes them back."""
    dense = [{"in_features": 32, "out_features": 16, "activation": "Tanh"}]
    model = SentenceTransformer(str(checkpoints.tiny(tmp_path, dense=dense)), device="cpu")
    traced = trace(model, EMBEDDING_EXPORT)
    # Without BERT's pooler, whose output no Sentence Transformer reads.
    layers = [part for name, part in model.named_modules() if isinstance(part, nn.Linear) and "pooler" not in name]
    assert len(layers) > 6
    transposed = [node.inputs[0] for node in traced.graph if node.op_type == "Transpose"]
    # A product of matrices, behind the pooling, transposes by an attribute.
    transposed += [
        node.inputs[1] for node in traced.graph if node.op_type == "Gemm" and node.attributes["transB"].value
    ]
    weights = [value for value in transposed if value is not None and value.is_initializer()]
    assert sorted(_shape(value) for value in weights) == sorted(tuple(layer.weight.shape) for layer in layers)
    products = [node.inputs[1] for node in traced.graph if node.op_type == "MatMul"]
    assert not any(value is not None and value.is_initializer() for value in products)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())
