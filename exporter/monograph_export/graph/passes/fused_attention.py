"""Attention as one operator of ONNX Runtime that takes lengths in place of a mask, for its fast kernels on GPUs.

These do not take a mask of numbers (onnxruntime#29717). It is for batches that are padded on the right, as the
runtime's are; on CPUs the products are faster (docs/performance.md).

Rules
    G1  MatMul, its scale, the shared padding mask, Softmax and MatMul of [batch, heads, sequence, head] become a
        MultiHeadAttention (com.microsoft) of [batch, sequence, heads x head], whose keys end at each text's length.
    G2  The length of a text, int32 [batch], is the sum of its attention_mask, made once.
    G3  A Reshape and Transpose that split heads before it, or joined them behind it, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from monograph_export.graph.passes.padding_mask import hides_padding_only
from monograph_export.graph.passes.values import constant

DOMAIN = "com.microsoft"
_MASK = "attention_mask"
# [batch, sequence, heads, head] to [batch, heads, sequence, head] and back.
_SPLIT = [0, 2, 1, 3]
# The axes of a key that is transposed for the product: after its heads are split, or before.
_TRANSPOSED, _SPLIT_AND_TRANSPOSED = [0, 1, 3, 2], [0, 2, 3, 1]


class FuseAttention(ir.passes.InPlacePass):
    """Replace attention that is written out, where its mask hides padding only; the numbers stay within rounding."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules G1 to G3."""
        attentions = [one for node in list(model.graph) if (one := _attention(node)) is not None]
        hiding = {mask: hides_padding_only(model, mask) for mask in {one.mask for one in attentions}}
        attentions = [one for one in attentions if hiding[one.mask]]
        if attentions:
            lengths = _lengths(model.graph)
            for one in attentions:
                _fuse(model.graph, one, lengths)
            model.opset_imports[DOMAIN] = 1
        return ir.passes.PassResult(model, bool(attentions))


@dataclass(frozen=True)
class _Attention:
    """What attention is made of: values [batch, heads, sequence, head], a key also [batch, sequence, heads, head]."""

    query: ir.Value
    key: ir.Value
    key_has_heads_first: bool
    value: ir.Value
    mask: ir.Value
    scale: float
    result: ir.Value

    @property
    def heads(self) -> tuple[int, int]:
        """Number and size of the heads."""
        shape = self.query.shape
        if shape is None or not isinstance(shape[1], int) or not isinstance(shape[3], int):
            raise ValueError(f"the heads of {self.query} are not known")
        return shape[1], shape[3]


def _attention(softmax: ir.Node) -> _Attention | None:
    """Return the attention whose weights a Softmax makes, None where it is written otherwise."""
    added = _made_by(softmax.inputs[0], "Add") if softmax.op_type == "Softmax" else None
    weighted = None if added is None else _only_use(softmax.outputs[0], "MatMul")
    if added is None or weighted is None or weighted.inputs[0] is not softmax.outputs[0]:
        return None
    scores, mask = added.inputs
    scores, scale = _unscaled(scores)
    product = _made_by(scores, "MatMul")
    transposed = None if product is None else _made_by(product.inputs[1], "Transpose")
    if product is None or transposed is None or mask is None:
        return None
    query, factor = _unscaled(product.inputs[0])
    order = list(transposed.attributes.get_ints("perm", []))
    key, value = transposed.inputs[0], weighted.inputs[1]
    if query is None or key is None or value is None or order not in (_TRANSPOSED, _SPLIT_AND_TRANSPOSED):
        return None
    attention = _Attention(query, key, order == _TRANSPOSED, value, mask, scale * factor, weighted.outputs[0])
    return attention if _has_known_heads(query) and _has_known_heads(value) else None


def _fuse(graph: ir.Graph, one: _Attention, lengths: ir.Value) -> None:
    """Apply rules G1 and G3."""
    place = one.result.producer()
    if place is None:
        raise ValueError(f"nothing makes {one.result}")
    count, size = one.heads

    def new(operator: str, inputs: list[ir.Value | None], domain: str = "", **attributes: object) -> ir.Value:
        node = ir.node(operator, inputs, attributes, domain=domain)  # type: ignore[arg-type]
        node.outputs[0].type = one.query.type
        graph.insert_before(place, node)
        return node.outputs[0]

    def joined(value: ir.Value, *, heads_first: bool) -> ir.Value:
        """Bring [batch, heads, sequence, head], or what that was made of, to [batch, sequence, heads x head]."""
        if heads_first:
            split = _made_by(value, "Transpose")
            before = None if split is None else split.inputs[0]
            if split is not None and before is not None and list(split.attributes.get_ints("perm", [])) == _SPLIT:
                value = before
            else:
                value = new("Transpose", [value], perm=_SPLIT)
        whole = _made_by(value, "Reshape")
        before = None if whole is None else whole.inputs[0]
        if before is not None and before.shape is not None and list(before.shape)[2:] == [count * size]:
            return before
        return new("Reshape", [value, _shape(graph, [0, 0, count * size])])

    inputs = [
        joined(one.query, heads_first=True),
        joined(one.key, heads_first=one.key_has_heads_first),
        joined(one.value, heads_first=True),
        None,
        lengths,
    ]
    result = new("MultiHeadAttention", inputs, DOMAIN, num_heads=count, scale=one.scale)
    if (behind := _joined_behind(one.result, count * size)) is not None:
        result.shape = behind.shape
        behind.replace_all_uses_with(result)
        return
    split = new("Reshape", [result, _shape(graph, [0, 0, count, size])])
    one.result.replace_all_uses_with(new("Transpose", [split], perm=_SPLIT))


def _lengths(graph: ir.Graph) -> ir.Value:
    """Apply rule G2."""
    [mask] = (value for value in graph.inputs if value.name == _MASK)
    axes = constant(graph, "lengths.axes", np.array([1], dtype=np.int64))
    summed = ir.node("ReduceSum", [mask, axes], {"keepdims": 0})
    cast = ir.node("Cast", summed.outputs, {"to": ir.DataType.INT32})
    summed.outputs[0].type, cast.outputs[0].type = ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.INT32)
    graph.insert_before(next(iter(graph)), [summed, cast])
    return cast.outputs[0]


def _shape(graph: ir.Graph, sizes: list[int]) -> ir.Value:
    name = f"joined.{'x'.join(map(str, sizes))}"
    known = graph.initializers.get(name)
    return constant(graph, name, np.array(sizes, dtype=np.int64)) if known is None else known


def _joined_behind(value: ir.Value, width: int) -> ir.Value | None:
    """Return what joins the heads of a value again, where nothing else is done with it."""
    transposed = _only_use(value, "Transpose")
    if transposed is None or list(transposed.attributes.get_ints("perm", [])) != _SPLIT:
        return None
    whole = _only_use(transposed.outputs[0], "Reshape")
    shape = None if whole is None else whole.outputs[0].shape
    return whole.outputs[0] if whole is not None and shape is not None and list(shape)[2:] == [width] else None


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return what a value is a multiple of, and how many times; itself and 1 where that is not known."""
    scaled = _made_by(value, "Mul")
    factor = None if scaled is None or scaled.inputs[1] is None else scaled.inputs[1].const_value
    if scaled is None or factor is None or factor.size != 1:
        return value, 1.0
    return scaled.inputs[0], float(factor.numpy().item())


def _has_known_heads(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == len(_SPLIT) and isinstance(shape[1], int) and isinstance(shape[3], int)


def _made_by(value: ir.Value | None, operator: str) -> ir.Node | None:
    producer = None if value is None else value.producer()
    return producer if producer is not None and producer.op_type == operator and not producer.domain else None


def _only_use(value: ir.Value, operator: str) -> ir.Node | None:
    users = list(value.consumers())
    return users[0] if len(users) == 1 and users[0].op_type == operator and not value.is_graph_output() else None
