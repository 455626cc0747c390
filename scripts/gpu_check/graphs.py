"""Rewrites of a bundle's graph that are measured and not exported: packed texts, and ids as int32.

Rules
    P1  The first value that all attention is made of, [batch, sequence, width], loses its padding (RemovePadding); what
        computes each token by itself then takes [tokens, width].
    P2  MultiHeadAttention with lengths becomes PackedMultiHeadAttention.
    P3  Where a value is read by anything else, pooling for example, its padding is restored.
    I1  Inputs become int32, each with a Cast to int64 behind it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import onnx_ir as ir

_MICROSOFT = "com.microsoft"
_BY_TOKEN = (
    "MatMul",
    "Add",
    "LayerNormalization",
    "Gelu",
    "Cast",
    "Mul",
    "SkipLayerNormalization",
    "Tanh",
    "Erf",
    "Div",
)
_ATTENTION = "MultiHeadAttention"
_LENGTHS = 4


class UnsuitableGraphError(Exception):
    """A graph is built otherwise than a rewrite expects."""


def write_packed(source: Path, folder: Path) -> Path:
    """Write a graph whose encoder computes no padding, beside its weights, and return its file."""
    model = ir.load(source)
    _pack(model)
    return _save(model, source, folder, "packed.onnx")


def write_int32(source: Path, folder: Path) -> Path:
    """Write a graph whose inputs are int32, beside its weights, and return its file."""
    model = ir.load(source)
    first = next(iter(model.graph))
    for value in model.graph.inputs:
        cast = ir.node("Cast", [value], {"to": ir.DataType.INT64})
        value.replace_all_uses_with(cast.outputs[0])
        cast.replace_input_with(0, value)
        value.type = ir.TensorType(ir.DataType.INT32)
        model.graph.insert_before(first, cast)
    return _save(model, source, folder, "int32.onnx")


def _pack(model: ir.Model) -> None:
    graph = model.graph
    attentions = [node for node in graph if node.op_type == _ATTENTION]
    if not attentions:
        raise UnsuitableGraphError("the graph has no MultiHeadAttention")
    lengths = attentions[0].inputs[_LENGTHS]
    embedded = _embedded(attentions[0])
    users = list(embedded.uses())
    remove = ir.node("RemovePadding", [embedded, lengths], domain=_MICROSOFT, num_outputs=4)
    for output, dtype in zip(remove.outputs, (embedded.dtype, *[ir.DataType.INT32] * 3), strict=True):
        output.type = None if dtype is None else ir.TensorType(dtype)
    after = embedded.producer()
    if after is None:
        raise UnsuitableGraphError("the embeddings are an input of the graph")
    packed_embedded, offsets, cumulated, _ = remove.outputs
    graph.insert_after(after, remove)
    for node, index in users:
        node.replace_input_with(index, packed_embedded)
    packed: set[ir.Value] = {packed_embedded}
    for node in list(graph):
        if node is remove or not any(value in packed for value in node.inputs):
            continue
        if node.op_type == _ATTENTION:
            packed.add(_pack_attention(graph, node, offsets, cumulated))
        elif _is_by_token(node, packed):
            packed.add(node.outputs[0])
            node.outputs[0].shape = None
        else:
            _restore(graph, node, packed, offsets)
    if any(node.op_type == _ATTENTION for node in graph):
        raise UnsuitableGraphError("some attention is made of values with padding")


def _embedded(attention: ir.Node) -> ir.Value:
    """Return what the query of the first attention is a linear layer of."""
    value = attention.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul" and node.inputs[0] is not None:
            return node.inputs[0]
        if node.op_type != "Add":
            break
        value = next((one for one in node.inputs if one is not None and one.producer() is not None), None)
    raise UnsuitableGraphError("the query of the first attention is no linear layer")


def _pack_attention(graph: ir.Graph, node: ir.Node, offsets: ir.Value, cumulated: ir.Value) -> ir.Value:
    query, key, value = node.inputs[:3]
    attributes = {name: node.attributes[name] for name in ("num_heads", "scale") if name in node.attributes}
    made = ir.Node(
        _MICROSOFT,
        "PackedMultiHeadAttention",
        [query, key, value, None, offsets, cumulated],
        list(attributes.values()),
    )
    made.outputs[0].type = node.outputs[0].type
    graph.insert_before(node, made)
    node.outputs[0].replace_all_uses_with(made.outputs[0])
    graph.remove(node, safe=True)
    return made.outputs[0]


def _is_by_token(node: ir.Node, packed: set[ir.Value]) -> bool:
    """Return whether each token is computed by itself, from packed values and weights."""
    if node.domain not in ("", _MICROSOFT) or node.op_type not in _BY_TOKEN or node.outputs[0].is_graph_output():
        return False
    if node.op_type == "LayerNormalization" and node.attributes.get_int("axis", -1) != -1:
        return False
    return all(value is None or value in packed or _is_constant(value) for value in node.inputs)


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    if producer is None:
        return value.const_value is not None
    return producer.op_type in ("Transpose", "Constant") and all(
        one is None or _is_constant(one) for one in producer.inputs
    )


def _restore(graph: ir.Graph, node: ir.Node, packed: set[ir.Value], offsets: ir.Value) -> None:
    for index, value in enumerate(node.inputs):
        if value in packed and value is not None:
            restored = ir.node("RestorePadding", [value, offsets], domain=_MICROSOFT)
            restored.outputs[0].type = value.type
            graph.insert_before(node, restored)
            node.replace_input_with(index, restored.outputs[0])


def _save(model: ir.Model, source: Path, folder: Path, name: str) -> Path:
    """Write a graph beside a copy of the weights, which it reads where they are in the bundle."""
    folder.mkdir(exist_ok=True)
    for weights in source.parent.glob("*.data"):
        if not (folder / weights.name).exists():
            shutil.copyfile(weights, folder / weights.name)
    model.opset_imports[_MICROSOFT] = 1
    file = folder / name
    proto = ir.to_proto(model)
    onnx.save(proto, file)
    return file
