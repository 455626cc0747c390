"""Give reshapes their shape as a constant, so that engines need not compute it anew for every batch.

Rules
    R1  A Reshape whose output's axes are each a known number, or the symbol that the input has at the same place, gets
        the constant shape of these numbers, and 0, which copies the input's axis, for the others.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from monograph_export.graph.passes.values import constant


class ConstantReshapes(ir.passes.InPlacePass):
    """Replace computed shapes of Reshape by constants; the numbers do not change."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rule R1."""
        modified = False
        constants: dict[tuple[int, ...], ir.Value] = {}
        for node in model.graph:
            if node.op_type != "Reshape" or node.domain or node.inputs[1] is None or node.inputs[1].const_value:
                continue
            shape = _constant_shape(node)
            if shape is None:
                continue
            if shape not in constants:
                name = f"shape.{'x'.join(map(str, shape))}"
                constants[shape] = constant(model.graph, name, np.array(shape, dtype=np.int64))
            node.replace_input_with(1, constants[shape])
            # With allowzero a 0 would be an axis of length 0.
            node.attributes.pop("allowzero", None)
            modified = True
        return ir.passes.PassResult(model, modified)


def _constant_shape(reshape: ir.Node) -> tuple[int, ...] | None:
    before = None if reshape.inputs[0] is None else reshape.inputs[0].shape
    after = reshape.outputs[0].shape
    if before is None or after is None:
        return None
    shape: list[int] = []
    for place, axis in enumerate(after):
        if isinstance(axis, int):
            shape.append(axis)
        elif place < len(before) and axis.value is not None and axis == before[place]:
            shape.append(0)
        else:
            return None
    return tuple(shape)
