"""Write attention out as products, a sum and a softmax, which both engines run faster than the one operator.

OpenVINO makes one kernel of these nodes, without the checks for rows of -inf that the operator's boolean mask asks
for; ONNX Runtime has fast kernels for the products and none for the operator (docs/performance.md).

Rules
    D1  An Attention (ONNX, opset 23) of [batch, heads, sequence, head] without causality, cap or cache, and with as
        many heads for keys as for queries, becomes MatMul, Mul, Add of its mask, Softmax and MatMul.
        At float16 the query is scaled instead of the product, which could pass 65,504.
    D2  A boolean mask is added as 0 and LOWEST of the type, made once for all that have it.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from monograph_export.graph.passes.values import constant

_RANK = 4
# The last two axes of the key.
_TRANSPOSED = [0, 1, 3, 2]
# Of float32 not the lowest number there is: bfloat16 would round that to -inf, and rows of nothing else give NaN.
LOWEST = {ir.DataType.FLOAT: -3e38, ir.DataType.FLOAT16: -6e4}


class DecomposeAttention(ir.passes.InPlacePass):
    """Replace Attention by the operators it is defined as; the numbers stay within float rounding."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules D1 and D2."""
        additive: dict[ir.Value, ir.Value] = {}
        modified = False
        for node in model.graph:
            if node.op_type == "Attention" and not node.domain and _is_plain(node):
                _replace(model.graph, node, additive)
                modified = True
        return ir.passes.PassResult(model, modified)


def _is_plain(node: ir.Node) -> bool:
    """Tell whether rule D1 holds."""
    operands, mask_and_cache = node.inputs[:3], node.inputs[3:]
    shapes = [operand.shape for operand in operands if operand is not None and operand.shape is not None]
    return (
        len(shapes) == len(operands)
        and all(len(shape) == _RANK for shape in shapes)
        and len({shape[1] for shape in shapes}) == 1
        and all(isinstance(shape[axis], int) for shape in shapes for axis in (1, 3))
        and operands[0] is not None
        and operands[0].dtype in LOWEST
        and all(value is None for value in mask_and_cache[1:])
        and len(node.outputs) == 1
        and node.attributes.get_int("is_causal", 0) == 0
        and node.attributes.get_float("softcap", 0.0) == 0.0
    )


def _replace(graph: ir.Graph, attention: ir.Node, additive: dict[ir.Value, ir.Value]) -> None:
    query, key, value = (operand for operand in attention.inputs[:3] if operand is not None)
    mask = next(iter(attention.inputs[3:]), None)
    if query.shape is None or key.shape is None or query.dtype is None or not isinstance(query.shape[3], int):
        raise ValueError(f"{attention} is not plain")
    dtype = query.dtype
    scale = attention.attributes.get_float("scale", None) or 1 / math.sqrt(query.shape[3])
    scores = ir.Shape([*list(query.shape)[:3], key.shape[2]])

    def new(operator: str, inputs: list[ir.Value], shape: ir.Shape | None, **attributes: int | list[int]) -> ir.Value:
        node = ir.node(operator, inputs, attributes)
        node.outputs[0].shape, node.outputs[0].type = shape, query.type
        graph.insert_before(attention, node)
        return node.outputs[0]

    factor = _number(graph, f"{attention.outputs[0].name}.scale", scale, dtype)
    if dtype == ir.DataType.FLOAT16:
        query = new("Mul", [query, factor], query.shape)
    product = new(
        "MatMul",
        [query, new("Transpose", [key], ir.Shape([key.shape[i] for i in _TRANSPOSED]), perm=_TRANSPOSED)],
        scores,
    )
    if dtype != ir.DataType.FLOAT16:
        product = new("Mul", [product, factor], scores)
    if mask is not None:
        if mask not in additive:
            additive[mask] = _as_summand(graph, attention, mask, dtype)
        product = new("Add", [product, additive[mask]], scores)
    weights = new("Softmax", [product], scores, axis=-1)
    result = new("MatMul", [weights, value], attention.outputs[0].shape)
    name, attention.outputs[0].name = attention.outputs[0].name, None
    attention.outputs[0].replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = name
    graph.remove(attention, safe=True)


def _as_summand(graph: ir.Graph, place: ir.Node, mask: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a mask as a summand of scores, rule D2; one of numbers is that already."""
    if mask.dtype != ir.DataType.BOOL:
        return mask
    visible = _number(graph, f"{mask.name}.kept", 0.0, dtype)
    hidden = _number(graph, f"{mask.name}.masked", LOWEST[dtype], dtype)
    where = ir.node("Where", [mask, visible, hidden])
    where.outputs[0].shape, where.outputs[0].type = mask.shape, ir.TensorType(dtype)
    graph.insert_before(place, where)
    return where.outputs[0]


def _number(graph: ir.Graph, name: str, number: float, dtype: ir.DataType) -> ir.Value:
    return constant(graph, name, np.array(number, dtype=dtype.numpy()))
