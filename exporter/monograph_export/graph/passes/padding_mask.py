"""One mask for the whole graph: what attention adds to its scores, made of attention_mask in three operators.

Traced masks are made by index arithmetic for every pair of positions, and are as large as the scores of a head.

Rules
    P1  A value that is added to the input of a Softmax, depends on attention_mask and sizes alone, and is for sample
        masks, one of them longer than any number in its making, 0 where attention_mask is 1 and LOWEST where it is 0,
        for every query, becomes (1 - attention_mask) x LOWEST, [batch, 1, 1, sequence], made once.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from monograph_export.graph.passes.attention import LOWEST
from monograph_export.graph.passes.values import ancestors, constant

_MASK = "attention_mask"
# Masks to find out by: padding on the right, none, on the left, gaps; a text of two tokens at least.
_SAMPLES = (
    np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=np.int64),
    np.array([[0, 0, 1, 1], [1, 0, 1, 0]], dtype=np.int64),
    np.array([[1, 1, 1, 1, 1, 1, 0]], dtype=np.int64),
)
# Of a mask that hides what is further away than a window the samples must be longer than that. Numbers from the second
# on are no sizes: ends of slices, and what stands for -inf.
_LONGEST_WINDOW = 2048
_NO_SIZE = 1 << 20
_BEYOND = 3


class SharePaddingMask(ir.passes.InPlacePass):
    """Replace masks that only hide padding by one small one; the numbers do not change."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rule P1."""
        graph = model.graph
        shared: dict[ir.DataType, ir.Value] = {}
        candidates = dict.fromkeys(value for node in graph for value in _summands(node))
        masks = [value for value in candidates if hides_padding_only(model, value)]
        for value in masks:
            assert value.dtype is not None  # noqa: S101 - a summand of scores is of their type
            if value.dtype not in shared:
                shared[value.dtype] = _padding_mask(graph, value.dtype)
            value.replace_all_uses_with(shared[value.dtype])
        return ir.passes.PassResult(model, bool(masks))


def _summands(softmax: ir.Node) -> list[ir.Value]:
    """Return what is added to the input of a Softmax."""
    producer = softmax.inputs[0].producer() if softmax.op_type == "Softmax" and softmax.inputs[0] is not None else None
    if producer is None or producer.op_type != "Add":
        return []
    return [value for value in producer.inputs if value is not None and value.dtype in LOWEST]


def hides_padding_only(model: ir.Model, value: ir.Value) -> bool:
    """Tell whether a summand of scores is 0 for tokens and LOWEST for padding, and nothing else, for every query."""
    if not _depends_on_mask_and_sizes(value):
        return False
    inputs = list(model.graph.inputs)
    part = ir.convenience.extract(model.graph, inputs, [value])
    window = _largest_number(part)
    if window > _LONGEST_WINDOW:
        return False
    part.opset_imports.update(model.opset_imports)
    evaluate = ReferenceEvaluator(ir.to_proto(ir.Model(part, ir_version=model.ir_version)))
    names = [str(one.name) for one in inputs]
    samples = (*_SAMPLES, np.ones((1, window + _BEYOND), dtype=np.int64))
    return all(_is_padding(evaluate, names, mask) for mask in samples)


def _largest_number(part: ir.Graph) -> int:
    """Return the largest number in a mask's graph that may be the size of a window; ends of slices are beyond any.

    No size is one of float16, whose own -inf is no larger than sizes are.
    """
    tensors = [value.const_value for value in part.initializers.values()]
    tensors += [
        attribute.as_tensor() for node in part for attribute in node.attributes.values() if attribute.name == "value"
    ]
    numbers = [
        abs(float(one.numpy().item()))
        for one in tensors
        if one is not None and one.size == 1 and one.dtype != ir.DataType.FLOAT16
    ]
    numbers += [abs(node.attributes.get_int("value_int", 0)) for node in part]
    return int(max((number for number in numbers if number < _NO_SIZE), default=0))


def _depends_on_mask_and_sizes(value: ir.Value) -> bool:
    """Tell whether a value is computed of attention_mask, and of no more than the sizes of other inputs."""
    return {one.name for one in ancestors([value], of_sizes=False) if one.is_graph_input()} == {_MASK}


def _is_padding(evaluate: ReferenceEvaluator, names: list[str], mask: NDArray[np.int64]) -> bool:
    fed = {name: mask if name == _MASK else np.ones_like(mask) for name in names}
    # Of positions that are not chosen, T5's distances have a logarithm of 0.
    with np.errstate(all="ignore"):
        values = np.asarray(next(iter(evaluate.run(None, fed))))
    lowest = LOWEST[ir.DataType.from_numpy(values.dtype)]
    expected = np.where(mask[:, np.newaxis, np.newaxis, :] == 1, 0, lowest)
    try:
        return bool(np.isclose(values, expected, rtol=1e-3).all())
    except ValueError:
        # Of another shape.
        return False


def _padding_mask(graph: ir.Graph, dtype: ir.DataType) -> ir.Value:
    [mask] = (value for value in graph.inputs if value.name == _MASK)
    assert mask.shape is not None  # noqa: S101 - inputs have one
    batch, sequence = mask.shape
    name = f"padding_mask.{dtype.name}"
    one = constant(graph, f"{name}.one", np.array(1, dtype=dtype.numpy()))
    lowest = constant(graph, f"{name}.lowest", np.array(LOWEST[dtype], dtype=dtype.numpy()))
    axes = constant(graph, f"{name}.axes", np.array([1, 2], dtype=np.int64))
    flat, full = ir.Shape([batch, sequence]), ir.Shape([batch, 1, 1, sequence])
    cast = ir.node("Cast", [mask], {"to": dtype})
    padding = ir.node("Sub", [one, cast.outputs[0]])
    product = ir.node("Mul", [padding.outputs[0], lowest])
    unsqueezed = ir.node("Unsqueeze", [product.outputs[0], axes])
    nodes = [cast, padding, product, unsqueezed]
    for node in nodes:
        node.outputs[0].type = ir.TensorType(dtype)
        node.outputs[0].shape = full if node is unsqueezed else flat
    first = next(iter(graph))
    graph.insert_before(first, nodes)
    return unsqueezed.outputs[0]
