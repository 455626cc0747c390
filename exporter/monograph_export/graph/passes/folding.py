"""What is computed of weights alone, computed once and for all.

onnxscript's optimizer folds small tensors, and no operator that may have several results, such as LayerNormalization.
ONNX Runtime is set to fold nothing as it loads a graph, for it would copy the weights of layers
(``monograph.engines.onnxruntime``). DeBERTa's products of its layers with its table of distances are what is left.

Rules
    C1  A value that no input of the graph has a part in becomes a constant where it meets one that has.
    C2  Weights that are transposed for a product stay: engines take them so.
    C3  What is rounded stays as it is stored: QuantizeLinear, DequantizeLinear, and what is computed of them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from monograph_export.graph.passes.values import constant

_ROUNDED = ("QuantizeLinear", "DequantizeLinear")


class FoldConstants(ir.passes.InPlacePass):
    """Replace what depends on weights alone by its value."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules C1 to C3."""
        fixed = _fixed(model.graph)
        met = [value for value in fixed if _is_met(value, fixed) and not _is_transposed_weight(value)]
        if met:
            part = ir.convenience.extract(model.graph, [], met)
            part.opset_imports.update(model.opset_imports)
            arrays = ReferenceEvaluator(ir.to_proto(ir.Model(part, ir_version=model.ir_version))).run(None, {})
            for value, array in zip(met, arrays, strict=True):
                value.replace_all_uses_with(constant(model.graph, f"{value.name}.folded", np.asarray(array)))
        return ir.passes.PassResult(model, bool(met))


def _fixed(graph: ir.Graph) -> dict[ir.Value, None]:
    """Return the values that nodes compute of initializers alone, in order."""
    known = set(graph.initializers.values())
    fixed: dict[ir.Value, None] = {}
    for node in graph:
        if node.op_type not in _ROUNDED and all(one is None or one in known or one in fixed for one in node.inputs):
            fixed |= dict.fromkeys(node.outputs)
    return fixed


def _is_met(value: ir.Value, fixed: dict[ir.Value, None]) -> bool:
    """Tell whether something that is not fixed reads a value."""
    return any(user.outputs[0] not in fixed for user in value.consumers())


def _is_transposed_weight(value: ir.Value) -> bool:
    node = value.producer()
    weight = None if node is None or node.op_type != "Transpose" else node.inputs[0]
    return weight is not None and weight.is_initializer() and {user.op_type for user in value.consumers()} == {"MatMul"}
