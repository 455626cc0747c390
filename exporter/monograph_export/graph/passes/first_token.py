"""Compute the last layer for the one token that CLS pooling, or a classifier, takes of each text.

Where the sentence vector is one token's, no other token's query, attention output or feed-forward of the last layer is
read; keys and values are needed of all. Of a BERT's products with weights these are 10 of 12 parts of one layer: 7 % of
a model of 12 layers, 14 % of 6, 42 % of 2.

Rules
    F1  A GatherElements that takes one position of each text (axis 1 of [batch, sequence, width]) moves before what
        computes each token by itself: normalisation, activations, rounding, sums, products with constants.
    F2  It moves before attention as DecomposeAttention writes it, into the queries; keys and values stay whole.
    F3  It stops at the values that keys and values of the last attention are made of, but moves before the rounding of
        their input: a product with int8 weights is one of int8 only right behind it.
    F4  It stays where all tokens are read elsewhere too, as by mean pooling beside CLS.
    F5  A Gather of one position that drops the axis, as classifiers take their first token, moves as F1 to F4 say and
        drops the axis afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from monograph_export.graph.passes.values import ancestors, constant

_SEQUENCE, _QUERIES = 1, 2
_TOKEN_RANK = 3
_HEADS_FIRST = [0, 2, 1, 3]
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
# Each token by itself, whatever the others are; products only with constants.
_BY_ITSELF = (
    *("LayerNormalization", "RMSNormalization", "Gelu", "Relu", "Tanh", "Sigmoid", "Erf", "Cast"),
    *(*_ROUNDING, "Add", "Sub", "Mul", "Div", "Max", "Clip"),
)
_SCORES_SCALED_AND_MASKED = ("Add", "Mul", "Div")


class SelectFirstTokenEarly(ir.passes.InPlacePass):
    """Move the selection of one token of each text before the last layer; the numbers do not change."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules F1 to F5."""
        modified = False
        for node in list(model.graph):
            if _takes_one_token(node):
                moved = _moved(model.graph, node, node)
            elif (position := _dropping_position(node)) is not None:
                moved = _moved_and_dropped(model.graph, node, position)
            else:
                continue
            if moved is not None:
                node.outputs[0].replace_all_uses_with(moved, replace_graph_outputs=True)
                modified = True
        return ir.passes.PassResult(model, modified)


@dataclass(frozen=True)
class _Attention:
    """Attention written out: its nodes from the query's product to the merging of heads."""

    query: ir.Value
    split: ir.Node
    turn: ir.Node
    scores: ir.Node
    between: tuple[ir.Node, ...]
    context: ir.Node
    turn_back: ir.Node
    merge: ir.Node

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All of them, in order."""
        return (self.split, self.turn, self.scores, *self.between, self.context, self.turn_back, self.merge)


class _CannotMoveError(Exception):
    """A value on the way is neither computed token by token nor of the selection's width."""


def _takes_one_token(node: ir.Node) -> bool:
    if node.op_type != "GatherElements" or node.domain or node.attributes.get_int("axis", 0) != _SEQUENCE:
        return False
    shapes = [None if value is None else value.shape for value in node.inputs]
    if any(shape is None or len(shape) != _TOKEN_RANK for shape in shapes):
        return False
    return shapes[1] is not None and shapes[1][_SEQUENCE] == 1


def _dropping_position(node: ir.Node) -> int | None:
    """Return the position that a Gather takes of each text without its axis, None for any other node."""
    if node.op_type != "Gather" or node.domain or node.attributes.get_int("axis", 0) != _SEQUENCE:
        return None
    tokens, index = node.inputs
    if index is None or tokens is None or tokens.shape is None or len(tokens.shape) != _TOKEN_RANK:
        return None
    position = ir.convenience.get_const_tensor(index)
    return int(position.numpy()) if position is not None and not position.shape else None


def _moved_and_dropped(graph: ir.Graph, dropping: ir.Node, position: int) -> ir.Value | None:
    """Rule F5: a Gather that keeps the axis is moved, and the axis dropped behind what it moved before."""
    tokens = dropping.inputs[0]
    if tokens is None or tokens.shape is None:
        return None
    name = dropping.outputs[0].name
    index = constant(graph, f"{name}.position", np.array([position], dtype=np.int64))
    keeping = ir.Node("", "Gather", [tokens, index], attributes=[ir.AttrInt64("axis", _SEQUENCE)])
    _, _, width = tokens.shape
    keeping.outputs[0].shape = ir.Shape([tokens.shape[0], 1, width])
    keeping.outputs[0].type = tokens.type
    graph.insert_before(dropping, keeping)
    moved = _moved(graph, keeping, dropping)
    # Nothing reads it: it was the pattern of those that do the selection.
    graph.remove(keeping, safe=True)
    if moved is None:
        return None
    axes = constant(graph, f"{name}.axes", np.array([_SEQUENCE], dtype=np.int64))
    dropped = ir.Node("", "Squeeze", [moved, axes])
    dropped.outputs[0].shape, dropped.outputs[0].type = dropping.outputs[0].shape, dropping.outputs[0].type
    graph.insert_before(dropping, dropped)
    return dropped.outputs[0]


def _moved(graph: ir.Graph, selection: ir.Node, reader: ir.Node) -> ir.Value | None:
    """Return what ``selection`` takes of ``reader``'s input, computed for the one token; None where it stays."""
    tokens = selection.inputs[0]
    if tokens is None:
        return None
    attentions = [one for value in ancestors([tokens]) if (one := _attention_at(value)) is not None]
    if not attentions:
        return None
    places = {node: place for place, node in enumerate(graph)}
    last = max(attentions, key=lambda attention: places[attention.merge])
    whole = ancestors(value for value in (last.scores.inputs[1], last.context.inputs[1]) if value is not None)
    selected = _Selected(graph, selection, reader, whole)
    try:
        moved = selected.of(tokens)
    except _CannotMoveError:
        # What was made on the way is not used, and removed with all that is not.
        return None
    return moved if selected.is_all_that_is_read() else None


class _Selected:
    """Values of one token of each text, made of values of all tokens."""

    def __init__(self, graph: ir.Graph, selection: ir.Node, reader: ir.Node, whole: set[ir.Value]) -> None:
        self._graph = graph
        self._selection = selection
        self._readers = {selection, reader}
        self._whole = whole
        self._made: dict[ir.Value, ir.Value] = {}
        self._computed_again: set[ir.Value] = set()

    def of(self, value: ir.Value) -> ir.Value:
        """Return a value [batch, 1, width] of a value [batch, sequence, width]; constants are themselves."""
        if value not in self._made:
            self._made[value] = value if _is_constant(value) else self._make(value)
        return self._made[value]

    def is_all_that_is_read(self) -> bool:
        """Tell whether nothing but the selection reads what is computed again, rule F4."""
        users = {use.node for value in self._computed_again for use in value.uses()}
        read = {node.outputs[0] for node in users if node not in self._readers}
        outputs = any(value.is_graph_output() for value in self._computed_again)
        return read <= self._computed_again and not outputs

    def _make(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        if node is None or (value in self._whole and (node.domain or node.op_type not in _ROUNDING)):
            return self._gathered(value)
        attention = _attention_at(value)
        if attention is not None:
            self._computed_again.update(node.outputs[0] for node in attention.nodes)
            return self._attended(attention)
        if not _is_by_token(node):
            return self._gathered(value)
        if value not in self._whole:
            self._computed_again.add(value)
        return self._again(node, [None if operand is None else self.of(operand) for operand in node.inputs], _SEQUENCE)

    def _gathered(self, value: ir.Value) -> ir.Value:
        """Rule F3; those of a GatherElements are repeated over the width, so it has to be the selection's."""
        positions = self._selection.inputs[1]
        if value.shape is None or positions is None or positions.shape is None or len(value.shape) != _TOKEN_RANK:
            raise _CannotMoveError
        if self._selection.op_type == "GatherElements" and value.shape[2] != positions.shape[2]:
            raise _CannotMoveError
        gathered = self._again(self._selection, [value, positions], _SEQUENCE)
        # Not that of the selection's own output: in front of a Cast it is another, as of the mask by which last-token
        # pooling multiplies.
        gathered.type = value.type
        return gathered

    def _attended(self, attention: _Attention) -> ir.Value:
        """Rule F2."""
        split = self._again(attention.split, [self.of(attention.query), attention.split.inputs[1]], _SEQUENCE)
        turned = self._again(attention.turn, [split], _QUERIES)
        value = self._again(attention.scores, [turned, attention.scores.inputs[1]], _QUERIES)
        before = attention.scores.outputs[0]
        for node in attention.between:
            value = self._again(node, [value if operand is before else operand for operand in node.inputs], _QUERIES)
            before = node.outputs[0]
        value = self._again(attention.context, [value, attention.context.inputs[1]], _QUERIES)
        value = self._again(attention.turn_back, [value], _SEQUENCE)
        return self._again(attention.merge, [value, attention.merge.inputs[1]], _SEQUENCE)

    def _again(self, node: ir.Node, inputs: list[ir.Value | None], axis: int) -> ir.Value:
        """Return the output of the same operator with other inputs, whose ``axis`` has one place."""
        copy = ir.Node(node.domain, node.op_type, inputs, attributes=list(node.attributes.values()), num_outputs=1)
        was = node.outputs[0]
        if was.shape is not None:
            copy.outputs[0].shape = ir.Shape([1 if place == axis else size for place, size in enumerate(was.shape)])
        copy.outputs[0].type = was.type
        self._graph.insert_before(self._selection, copy)
        return copy.outputs[0]


def _is_by_token(node: ir.Node) -> bool:
    """Rule F1: tell whether a node computes each token by itself."""
    if node.domain:
        return False
    if node.op_type == "ReduceMax":
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        keeps = node.attributes.get_int("keepdims", 1) == 1
        return keeps and axes is not None and _is_last_axis(axes)
    return node.op_type in _BY_ITSELF or (node.op_type == "MatMul" and _has_weights(node))


def _is_last_axis(axes: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(axes)
    return tensor is not None and tensor.numpy().tolist() in ([-1], [_TOKEN_RANK - 1])


def _attention_at(value: ir.Value) -> _Attention | None:
    """Return the attention whose heads a value merges, None where it is something else."""
    merge = _produced(value, "Reshape")
    turn_back = _produced(merge.inputs[0], "Transpose") if merge is not None else None
    context = _produced(turn_back.inputs[0], "MatMul") if turn_back is not None else None
    softmax = _produced(context.inputs[0], "Softmax") if context is not None else None
    if merge is None or turn_back is None or context is None or softmax is None or not _has_constant_shape(merge):
        return None
    between = [softmax]
    while (node := _produced(between[-1].inputs[0], *_SCORES_SCALED_AND_MASKED)) is not None:
        # A summand that differs from query to query would have to be selected too.
        if not all(_is_the_same_for_queries(operand) for operand in node.inputs[1:]):
            return None
        between.append(node)
    scores = _produced(between[-1].inputs[0], "MatMul")
    turn = _produced(scores.inputs[0], "Transpose") if scores is not None else None
    split = _produced(turn.inputs[0], "Reshape") if turn is not None else None
    if scores is None or turn is None or split is None or split.inputs[0] is None or not _has_constant_shape(split):
        return None
    if any(list(node.attributes.get_ints("perm", [])) != _HEADS_FIRST for node in (turn, turn_back)):
        return None
    return _Attention(split.inputs[0], split, turn, scores, tuple(reversed(between)), context, turn_back, merge)


def _produced(value: ir.Value | None, *operators: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in operators and not node.domain else None


def _is_the_same_for_queries(value: ir.Value | None) -> bool:
    shape = None if value is None else value.shape
    return shape is not None and (len(shape) <= 1 or shape[len(shape) - 2] == 1)


def _has_constant_shape(reshape: ir.Node) -> bool:
    """Tell whether a Reshape copies the first two axes, as ConstantReshapes writes it."""
    shape = None if reshape.inputs[1] is None else reshape.inputs[1].const_value
    return shape is not None and not shape.numpy()[:2].any()


def _has_weights(product: ir.Node) -> bool:
    return product.inputs[1] is not None and _is_constant(product.inputs[1])


def _is_constant(value: ir.Value) -> bool:
    """Tell whether a value is computed of weights and numbers alone."""
    return all(one.const_value is not None or one.producer() is not None for one in ancestors([value]))
