"""The vectors of all tokens as an output of an exported graph, whose weights do not change.

After ``SelectFirstTokenEarly`` the last layer computes one token of each text, and no value has the vectors of all.
``restore_all_tokens`` computes that layer again without the selection.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

_SEQUENCE, _TOKEN_RANK = 1, 3
# What the last layer consists of, as SelectFirstTokenEarly leaves it.
_OPERATORS_OF_A_LAYER = (
    *("MatMul", "Add", "Sub", "Mul", "Div", "Max", "Clip", "Cast", "Transpose", "Softmax", "ReduceMax"),
    *("LayerNormalization", "RMSNormalization", "Gelu", "Relu", "Tanh", "Sigmoid", "Erf"),
    *("QuantizeLinear", "DequantizeLinear"),
)


def token_values(model: ir.Model, width: int) -> list[ir.Value]:
    """Return the values that may be the vectors of all tokens, float32 [batch, sequence, width], in the graph's order.

    Where the graph computes its last layer for one token only, it gets new nodes that compute it for all.
    """
    restore_all_tokens(model.graph)
    outputs = [output for node in model.graph for output in node.outputs]
    return [value for value in outputs if _is_of_all_tokens(value, width)]


def restore_all_tokens(graph: ir.Graph) -> None:
    """Add nodes that compute of all tokens what the graph computes of one selected token of each text."""
    whole: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        tokens = node.inputs[0] if node.inputs else None
        if tokens is not None and _selects_one_token(node):
            whole[node.outputs[0]] = tokens
        elif _is_of_a_layer(node) and any(operand in whole for operand in node.inputs if operand is not None):
            inputs = [None if operand is None else whole.get(operand, operand) for operand in node.inputs]
            copy = ir.Node(node.domain, node.op_type, inputs, attributes=list(node.attributes.values()), num_outputs=1)
            one = node.outputs[0]
            copy.outputs[0].type = one.type
            if one.shape is not None and len(one.shape) == _TOKEN_RANK and one.shape[_SEQUENCE] == 1:
                copy.outputs[0].shape = ir.Shape([one.shape[0], "sequence", one.shape[2]])
            graph.insert_before(node, copy)
            whole[one] = copy.outputs[0]


def with_outputs(model: ir.Model, values: Sequence[ir.Value]) -> ir.Model:
    """Return a copy of a model that has other outputs, and no node that none of them needs; the weights are shared."""
    places = {value: place for place, value in enumerate(_values(model.graph))}
    copied = model.clone()
    copies = list(_values(copied.graph))
    copied.graph.outputs.clear()
    copied.graph.outputs.extend(copies[places[value]] for value in values)
    return common.RemoveUnusedNodesPass()(copied).model


def name_token_output(value: ir.Value, name: str) -> None:
    """Give an output with the vectors of all tokens its name, and the names of its axes."""
    width = None if value.shape is None else value.shape[2]
    value.name = name
    value.shape = ir.Shape(["batch", "sequence", width])


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [output for node in graph for output in node.outputs]


def _is_of_all_tokens(value: ir.Value, width: int) -> bool:
    shape = value.shape
    if shape is None or len(shape) != _TOKEN_RANK or value.dtype != ir.DataType.FLOAT:
        return False
    return shape[2] == width and not isinstance(shape[_SEQUENCE], int)


def _selects_one_token(node: ir.Node) -> bool:
    """Tell whether a node takes one position of each text and keeps the axis."""
    if node.domain or node.op_type not in ("Gather", "GatherElements"):
        return False
    output = node.outputs[0]
    if node.attributes.get_int("axis", 0) != _SEQUENCE or output.shape is None:
        return False
    return len(output.shape) == _TOKEN_RANK and output.shape[_SEQUENCE] == 1


def _is_of_a_layer(node: ir.Node) -> bool:
    if node.domain:
        return False
    if node.op_type == "Reshape":
        # One that copies the first two axes, whatever their sizes.
        shape = None if node.inputs[1] is None else node.inputs[1].const_value
        return shape is not None and not shape.numpy()[:2].any()
    return node.op_type in _OPERATORS_OF_A_LAYER
