"""Exact rewrites of the graph: what each rule does, what it leaves alone, and that no number changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from sentence_transformers import SentenceTransformer

from monograph.bundle import Bundle, open_bundle
from monograph_export.graph.passes import apply_passes
from monograph_export.graph.passes.attention import DecomposeAttention
from monograph_export.graph.passes.first_token import SelectFirstTokenEarly
from monograph_export.graph.passes.padding_mask import SharePaddingMask
from monograph_export.graph.passes.reshape import ConstantReshapes
from monograph_export.graph.trace import trace
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support import checkpoints

MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=np.int64)
HEADS = "float[batch,4,sequence,8] q, float[batch,4,sequence,8] k, float[batch,4,sequence,8] v"


def parsed(text: str) -> ir.Model:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]> {text}')
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def ran(model: ir.Model, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return np.asarray(next(iter(ReferenceEvaluator(proto).run(None, dict(inputs)))))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def summands(model: ir.Model) -> set[ir.Value]:
    """What is added to the inputs of softmaxes."""
    inputs = [node.inputs[0] for node in model.graph if node.op_type == "Softmax"]
    additions = [value.producer() for value in inputs if value is not None]
    return {addition.inputs[1] for addition in additions if addition is not None and addition.inputs[1] is not None}


def heads(*shape: int) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape).astype(np.float32) for name in "qkv"}


@pytest.mark.parametrize("attributes", ["", "<scale = 0.5>"])
@pytest.mark.parametrize(
    ("mask_type", "mask"),
    [
        (None, None),
        ("bool[batch,1,1,sequence]", MASK[:, np.newaxis, np.newaxis] == 1),
        ("float[batch,1,1,sequence]", np.where(MASK[:, np.newaxis, np.newaxis] == 1, 0, -1e30).astype(np.float32)),
    ],
)
def test_attention_written_out_gives_the_same(
    attributes: str, mask_type: str | None, mask: NDArray[Any] | None
) -> None:
    inputs = heads(3, 4, 5, 8) | ({} if mask is None else {"mask": mask})
    names = "q, k, v" + ("" if mask is None else ", mask")
    signature = HEADS + ("" if mask is None else f", {mask_type} mask")
    model = parsed(f"g ({signature}) => (float[batch,4,sequence,8] out) {{ out = Attention {attributes} ({names}) }}")
    expected = ran(model, inputs)
    assert DecomposeAttention()(model).modified
    assert "Attention" not in operators(model)
    np.testing.assert_allclose(ran(model, inputs), expected, atol=1e-6)


def test_products_beyond_float16_are_scaled_before() -> None:
    model = parsed(
        f"g ({HEADS.replace('float', 'float16')}) => (float16[batch,4,sequence,8] out) "
        "{ out = Attention <scale = 0.001> (q, k, v) }"
    )
    large = {name: (values * 150).astype(np.float16) for name, values in heads(1, 4, 5, 8).items()}
    wide = {name: values.astype(np.float32) for name, values in large.items()}
    reference = parsed(
        f"g ({HEADS}) => (float[batch,4,sequence,8] out) {{ out = Attention <scale = 0.001> (q, k, v) }}"
    )
    assert np.abs(np.einsum("bhqd,bhkd->bhqk", wide["q"], wide["k"])).max() > np.finfo(np.float16).max
    DecomposeAttention()(model)
    np.testing.assert_allclose(ran(model, large), ran(reference, wide), rtol=0.05, atol=2)


def test_one_summand_serves_all_attentions_of_a_boolean_mask() -> None:
    model = parsed(
        f"g ({HEADS}, bool[batch,1,1,sequence] mask) => (float[batch,4,sequence,8] out)"
        "{ first = Attention(q, k, v, mask) out = Attention(first, k, v, mask) }"
    )
    DecomposeAttention()(model)
    assert operators(model).count("Where") == 1
    assert operators(model).count("Softmax") == 2


@pytest.mark.parametrize("attributes", ["<is_causal = 1>", "<softcap = 30.0>"])
def test_attention_that_is_more_than_products_is_left(attributes: str) -> None:
    model = parsed(f"g ({HEADS}) => (float[batch,4,sequence,8] out) {{ out = Attention {attributes} (q, k, v) }}")
    assert not DecomposeAttention()(model).modified
    assert operators(model) == ["Attention"]


def test_attention_with_fewer_heads_for_keys_is_left() -> None:
    model = parsed(
        "g (float[batch,4,sequence,8] q, float[batch,2,sequence,8] k, float[batch,2,sequence,8] v) => "
        "(float[batch,4,sequence,8] out) { out = Attention(q, k, v) }"
    )
    assert not DecomposeAttention()(model).modified


# Every pair of positions, as traced graphs have it.
PAIRS = """
    kept = Cast <to = 9> (attention_mask)
    keys = Unsqueeze (kept, axes)
    size = Shape <start = 1, end = 2> (attention_mask)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    length = Squeeze (size)
    positions = Range (zero, length, one)
    column = Unsqueeze (positions, last)
    {more}
    lowest = Constant <value_float = -3e38> ()
    nothing = Constant <value_float = 0.0> ()
    summand = Where (seen, nothing, lowest)
    sum = Add (scores, summand)
    out = Softmax <axis = -1> (sum)
"""
PADDING = "always = GreaterOrEqual (column, zero) seen = And (keys, always)"
WINDOW = """
    distance = Sub (positions, column) away = Abs (distance) size_of_window = Constant <value_int = 40> ()
    near = LessOrEqual (away, size_of_window) seen = And (keys, near)
"""
CAUSAL = "before = LessOrEqual (positions, column) seen = And (keys, before)"


def masked(more: str) -> ir.Model:
    return parsed(
        "g (float[batch,4,sequence,sequence] scores, int64[batch,sequence] attention_mask) => "
        "(float[batch,4,sequence,sequence] out) <int64[2] axes = {1, 2}, int64[1] last = {1}>"
        f"{{ {PAIRS.format(more=more)} }}"
    )


def scores() -> dict[str, NDArray[Any]]:
    values = np.random.default_rng(0).standard_normal((3, 4, 5, 5)).astype(np.float32)
    return {"scores": values, "attention_mask": MASK}


def test_a_mask_that_hides_only_padding_is_made_once_and_small() -> None:
    model = masked(PADDING)
    expected = ran(model, scores())
    assert SharePaddingMask()(model).modified
    [mask] = summands(model)
    assert str(mask.shape) == "[batch,1,1,sequence]"
    np.testing.assert_array_equal(ran(model, scores()), expected)


@pytest.mark.parametrize("more", [CAUSAL, WINDOW, WINDOW.replace("40", "4000")])
def test_a_mask_that_hides_more_than_padding_is_left(more: str) -> None:
    model = masked(more)
    assert not SharePaddingMask()(model).modified


def test_a_summand_that_is_no_mask_is_left() -> None:
    model = parsed(
        "g (float[batch,4,sequence,sequence] scores, int64[batch,sequence] attention_mask, "
        "float[batch,4,sequence,sequence] bias) => (float[batch,4,sequence,sequence] out)"
        "{ sum = Add (scores, bias) out = Softmax <axis = -1> (sum) }"
    )
    assert not SharePaddingMask()(model).modified


def test_a_reshape_that_splits_an_axis_gets_a_constant_shape() -> None:
    model = parsed(
        "g (float[batch,sequence,32] x) => (float[batch,sequence,4,8] out) <int64[2] inner = {4, 8}>"
        "{ outer = Shape <start = 0, end = 2> (x) shape = Concat <axis = 0> (outer, inner) "
        "out = Reshape <allowzero = 1> (x, shape) }"
    )
    values = {"x": np.random.default_rng(0).standard_normal((3, 5, 32)).astype(np.float32)}
    expected = ran(model, values)
    assert ConstantReshapes()(model).modified
    assert operators(apply_passes(model)) == ["Reshape"]
    np.testing.assert_array_equal(ran(model, values), expected)


def test_a_reshape_that_moves_an_unknown_axis_is_left() -> None:
    model = parsed(
        "g (float[batch,sequence,32] x, int64[3] shape) => (float[sequence,batch,32] out) { out = Reshape (x, shape) }"
    )
    assert not ConstantReshapes()(model).modified


def test_a_bundle_has_one_mask_and_no_attention_operator(tiny_bundle: Path) -> None:
    bundle: Bundle = open_bundle(tiny_bundle)
    model = ir.load(bundle.path / "model.onnx")
    assert "Attention" not in operators(model)
    assert "GatherND" not in operators(model)
    [mask] = summands(model)
    assert str(mask.shape) == "[batch,1,1,sequence]"
    shapes = [node.inputs[1] for node in model.graph if node.op_type == "Reshape"]
    assert shapes
    assert all(shape is not None and shape.const_value is not None for shape in shapes)


# One layer with CLS pooling, as it is traced, of random weights: which token is selected is a parameter.
LAYER = """
    g (float[batch,sequence,32] x, int64[batch,sequence] attention_mask, int64[batch,1,32] position)
    => (float[batch,1,32] out)
    <int64[4] split = {0, 0, 4, 8}, int64[3] merge = {0, 0, 32}, float scale = {0.25}, int64[2] axes = {1, 2},
     float one = {1.0}, float lowest = {-1e30}, int64[1] first = {1}, int64[1] second = {2}>
    {
        real = Cast <to = 1> (attention_mask)
        padding = Sub (one, real)
        hidden = Mul (padding, lowest)
        mask = Unsqueeze (hidden, axes)
        q3 = MatMul (x, wq) q4 = Reshape (q3, split) q = Transpose <perm = [0, 2, 1, 3]> (q4)
        k3 = MatMul (x, wk) k4 = Reshape (k3, split) k = Transpose <perm = [0, 2, 3, 1]> (k4)
        v3 = MatMul (x, wv) v4 = Reshape (v3, split) v = Transpose <perm = [0, 2, 1, 3]> (v4)
        product = MatMul (q, k) scaled = Mul (product, scale) scores = Add (scaled, mask)
        shares = Softmax <axis = -1> (scores)
        context = MatMul (shares, v) back = Transpose <perm = [0, 2, 1, 3]> (context) merged = Reshape (back, merge)
        projected = MatMul (merged, wo) residual = Add (projected, x)
        normal = LayerNormalization (residual, gamma)
        up = MatMul (normal, w1) bent = Gelu (up) down = MatMul (bent, w2) sum = Add (down, normal)
        last = LayerNormalization (sum, gamma)
        {tail}
    }
"""
WEIGHTS = {
    "wq": (32, 32),
    "wk": (32, 32),
    "wv": (32, 32),
    "wo": (32, 32),
    "w1": (32, 64),
    "w2": (64, 32),
    "gamma": (32,),
}
CLS = "out = GatherElements <axis = 1> (last, position)"


def layer(tail: str = CLS, text: str = LAYER) -> ir.Model:
    """The layer with weights and, as shape inference finds them, shapes."""
    generator = np.random.default_rng(1)
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]> {text.replace("{tail}", tail)}')
    for name, shape in WEIGHTS.items():
        values = (generator.standard_normal(shape) / 6).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def layer_inputs() -> dict[str, NDArray[Any]]:
    x = np.random.default_rng(2).standard_normal((3, 5, 32)).astype(np.float32)
    position = np.broadcast_to(np.array([0, 2, 0], dtype=np.int64)[:, np.newaxis, np.newaxis], (3, 1, 32))
    return {"x": x, "attention_mask": MASK, "position": np.ascontiguousarray(position)}


def of_one_token(model: ir.Model) -> list[str]:
    """The weights of products that are computed for one token of each text."""
    products = [node for node in model.graph if node.op_type == "MatMul" and node.outputs[0].shape is not None]
    return [
        str(node.inputs[1].name) for node in products if node.inputs[1] and list(node.outputs[0].shape or ())[1] == 1
    ]


def test_the_last_layer_is_computed_for_the_token_that_pooling_takes() -> None:
    model = layer()
    expected = ran(model, layer_inputs())
    model = apply_passes(model)
    # Each product once: what was computed for all tokens is gone.
    assert operators(model).count("MatMul") == len(WEIGHTS) - 1 + 2
    assert of_one_token(model) == ["wq", "wo", "w1", "w2"]
    np.testing.assert_allclose(ran(model, layer_inputs()), expected, atol=1e-6)


def test_an_int8_query_is_still_multiplied_right_behind_the_rounding() -> None:
    rounded = (
        "step = Constant <value_float = 0.05> () zero = Constant <value_int = 128> () middle = Cast <to = 2> (zero) "
        "levels = QuantizeLinear (x, step, middle) rounded = DequantizeLinear (levels, step, middle) q3 = "
    )
    text = LAYER.replace("q3 = ", rounded, 1).replace("MatMul (x,", "MatMul (rounded,")
    model = layer(text=text)
    expected = ran(model, layer_inputs())
    model = apply_passes(model)
    assert of_one_token(model) == ["wq", "wo", "w1", "w2"]
    products = [node for node in model.graph if node.op_type == "MatMul"]
    queries, keys, values = (
        next(node.inputs[0] for node in products if node.inputs[1] and node.inputs[1].name == name)
        for name in ("wq", "wk", "wv")
    )
    assert keys is values
    for value in (queries, keys):
        rounding = None if value is None else value.producer()
        assert rounding is not None
        assert rounding.op_type == "DequantizeLinear"
    np.testing.assert_allclose(ran(model, layer_inputs()), expected, atol=1e-6)


def test_a_token_that_a_classifier_takes_without_its_axis_is_computed_alone() -> None:
    tail = "zero = Constant <value_int = 0> () taken = Gather <axis = 1> (last, zero) out = Unsqueeze (taken, first)"
    model = layer(tail)
    expected = ran(model, layer_inputs())
    model = apply_passes(model)
    assert operators(model).count("MatMul") == len(WEIGHTS) - 1 + 2
    assert of_one_token(model) == ["wq", "wo", "w1", "w2"]
    np.testing.assert_allclose(ran(model, layer_inputs()), expected, atol=1e-6)


@pytest.mark.parametrize(("axis", "alone"), [("second", ["wq", "wo", "w1", "w2"]), ("first", [])])
def test_what_is_divided_by_its_tokens_largest_is_computed_alone(axis: str, alone: list[str]) -> None:
    """But not what is divided by the largest of all tokens."""
    divided = f"largest = ReduceMax (bent, {axis}) divisor = Clip (largest, one) small = Div (bent, divisor)"
    model = layer(text=LAYER.replace("down = MatMul (bent, w2)", f"{divided} down = MatMul (small, w2)"))
    expected = ran(model, layer_inputs())
    model = apply_passes(model)
    assert of_one_token(model) == alone
    np.testing.assert_allclose(ran(model, layer_inputs()), expected, atol=1e-6)


@pytest.mark.parametrize(
    "tail",
    [
        # Without its axis, and all tokens as well.
        "zero = Constant <value_int = 0> () taken = Gather <axis = 1> (last, zero) wide = Unsqueeze (taken, first) "
        "all = ReduceSum <keepdims = 1> (last, first) out = Add (wide, all)",
        # All tokens of the last layer are an output as well.
        f"{CLS.replace('out', 'chosen')} all = ReduceSum <keepdims = 1> (last, first) out = Add (chosen, all)",
        # The same where the token is taken of what is made of them, as for the last token.
        "real_too = Cast <to = 1> (attention_mask) wide_mask = Unsqueeze (real_too, second) "
        "kept = Mul (last, wide_mask) "
        f"{CLS.replace('out', 'chosen').replace('last', 'kept')} all = ReduceSum <keepdims = 1> (last, first) "
        "out = Add (chosen, all)",
        # One of another width than the layer's input.
        "wide = MatMul (last, w1) twice = Concat <axis = 2> (position, position) "
        "chosen = GatherElements <axis = 1> (wide, twice) out = MatMul (chosen, w2)",
    ],
)
def test_a_selection_that_saves_nothing_or_cannot_move_is_left(tail: str) -> None:
    model = layer(tail)
    assert not SelectFirstTokenEarly()(model).modified


def test_what_is_taken_of_a_mask_has_the_type_of_the_mask() -> None:
    """Last-token pooling multiplies with the mask, widened and cast, before it takes one token."""
    model = layer(
        "like = Shape (x) every = Unsqueeze (attention_mask, second) widened = Expand (every, like) "
        f"real_too = Cast <to = 1> (widened) kept = Mul (last, real_too) {CLS.replace('last', 'kept')}"
    )
    # torch states them; shape inference does not follow Expand.
    for node in model.graph:
        if node.outputs[0].name in ("widened", "real_too", "kept"):
            node.outputs[0].shape = ir.Shape(["batch", "sequence", 32])
    before = ran(model, layer_inputs())
    assert SelectFirstTokenEarly()(model).modified
    taken = [node for node in model.graph if node.op_type == "GatherElements"]
    assert {ir.DataType.INT64, ir.DataType.FLOAT} == {node.outputs[0].dtype for node in taken}
    assert all(node.inputs[0] is not None and node.outputs[0].dtype == node.inputs[0].dtype for node in taken)
    np.testing.assert_allclose(ran(model, layer_inputs()), before, atol=1e-5)


def test_a_traced_model_with_cls_pooling_computes_one_token_in_its_last_layer(tmp_path: Path) -> None:
    config = checkpoints.TINY_BERT | {"num_hidden_layers": 2}
    model = SentenceTransformer(str(checkpoints.tiny(tmp_path, config=config, pooling="cls")), device="cpu")
    nodes = of_one_token(apply_passes(trace(model, EMBEDDING_EXPORT)))
    # Query, attention output and the two of the feed-forward; those of the layer before are of all tokens.
    assert len(nodes) == 4
