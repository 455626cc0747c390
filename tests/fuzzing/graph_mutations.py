"""Mutations of an ONNX graph: any field of any message, and what reads files, runs code or takes memory in engines."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

from fuzzing.protobuf import Field, Message, parse

# Fields of ONNX's messages.
MODEL_GRAPH, MODEL_OPSET, MODEL_FUNCTION = 7, 8, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT = 1, 5, 12
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TYPE = 1, 5, 6, 20
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_ENTRY, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
_EXTERNAL, _TYPE_TENSOR, _TYPE_GRAPH, _FLOAT = 1, 4, 5, 1
_INTEGERS = (0, 1, 2, -1, 7, 16, 24, 31, 127, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63), -(2**31))
# fmt: off
_OPERATORS = (
    "Add", "Sub", "Mul", "Div", "MatMul", "Gather", "Reshape", "Expand", "Tile", "ConstantOfShape", "Loop", "Scan",
    "If", "Pad", "Resize", "Range", "OneHot", "ScatterND", "GatherND", "Slice", "Concat", "Split", "Softmax",
    "NonZero", "Conv", "LSTM", "Unique", "StringNormalizer", "TfIdfVectorizer", "RandomNormal", "PythonOp",
    "ArrayFeatureExtractor", "Transpose", "Squeeze", "ReduceSum", "TopK", "Einsum", "Attention", "LayerNormalization",
    "Identity", "Shape", "Cast", "",
)
_DOMAINS = ("ai.onnx", "ai.onnx.ml", "com.microsoft", "com.example", "ai.onnx.preview.training", "local",
            "org.openvinotoolkit")
# Of values outside of the graph; {outside} is the path of a file.
_LOCATIONS = (
    "../outside.bin", "./../outside.bin", "model.onnx.data/../../outside.bin", "unlisted.bin", "./model.onnx.data",
    "tokenizer.json", "manifest.json", "link.data", "", ".", "..", "/", "/dev/zero", "/proc/self/mem",
    "*/_ORT_MEM_ADDR_/*", "..\\outside.bin", "model.onnx.data\x00../outside.bin", "nothing.data", "{outside}",
    "file://{outside}",
)
# fmt: on


def mutate_graph(model: Message, random: random.Random, outside: Path) -> str:
    """Change a model and return what was done; ``outside`` is a file that no bundle lists."""
    if random.random() < 0.45:
        return _mutate_field(model, random)
    name = random.choice(tuple(_ACTIONS))
    return f"{name}: {_ACTIONS[name](model, random, outside)}"


def set_external(tensor: Message, location: str, offset: object, length: object) -> None:
    """Make a tensor's values those of a file."""
    tensor.fields = [one for one in tensor.fields if one.number not in (TENSOR_RAW, TENSOR_ENTRY, TENSOR_LOCATION)]
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        if value is not None:
            tensor.add(TENSOR_ENTRY, Message("entry").add(1, key).add(2, str(value)))
    tensor.add(TENSOR_LOCATION, _EXTERNAL)


def _mutate_field(model: Message, random: random.Random) -> str:
    message = random.choice([one for one in model.walk() if one.fields])
    one = random.choice(message.fields)
    action = random.choice(("value", "value", "value", "remove", "repeat", "move", "number", "replace"))
    if action == "remove":
        message.fields.remove(one)
    elif action == "repeat":
        message.fields.extend([copy.deepcopy(one)] * random.choice((1, 2, 1000)))
    elif action == "move":
        random.shuffle(message.fields)
    elif action == "number":
        one.number = random.randrange(1, 30)
    elif action == "replace":
        other = random.choice([other for other in model.walk() if other.kind == message.kind])
        message.fields = copy.deepcopy(other.fields)
    else:
        one.value = _another(one, random)
    return f"{action} of field {one.number} of a {message.kind}"


def _another(one: Field, random: random.Random) -> int | bytes | Message:
    if isinstance(one.value, int):
        return random.choice((*_INTEGERS, one.value + 1, one.value * 2))
    if isinstance(one.value, bytes):
        at = random.randrange(len(one.value) + 1)
        return random.choice(
            (b"", b"\xff\xfe", one.value[:at], one.value[:at] + b"\x00" + one.value[at:], one.value * 20)
        )
    message = copy.deepcopy(one.value)
    random.shuffle(message.fields)
    return message


def _graph(model: Message) -> Message:
    graph = model.first(MODEL_GRAPH)
    return graph if isinstance(graph, Message) else Message("graph")


def _tensor(random: random.Random, name: str) -> Message:
    tensor = Message("tensor").add(TENSOR_SHAPE, 4).add(TENSOR_TYPE, _FLOAT).add(TENSOR_NAME, name)
    return tensor.add(TENSOR_RAW, bytes(16))


def _read_elsewhere(model: Message, random: random.Random, outside: Path) -> str:
    """Let a tensor of the graph, of an attribute, of a subgraph or of a function come from another file."""
    graph, location = _graph(model), random.choice(_LOCATIONS).format(outside=outside)
    offset = random.choice((None, 0, 0, 4096, -1, 2**63, "x"))
    length = random.choice((None, 16, 16, 0, -1, 2**40))
    place = random.choice(("initializer", "new initializer", "constant", "subgraph", "function"))
    initializers = graph.children(GRAPH_INITIALIZER)
    if place == "initializer" and initializers:
        tensor = random.choice(initializers)
        sizes = [one.value for one in tensor.fields if one.number == TENSOR_SHAPE and isinstance(one.value, int)]
        set_external(tensor, location, offset, random.choice((length, 4 * max(1, sum(sizes)))))
        return f"{place} from {location}"
    tensor = _tensor(random, "foreign")
    set_external(tensor, location, offset, length)
    node = _constant(tensor)
    if place == "constant":
        graph.fields.insert(0, Field(GRAPH_NODE, 2, node))
    elif place == "subgraph":
        branch = Message("graph").add(GRAPH_NODE, node).add(2, "branch")
        if random.random() < 0.5:
            branch = Message("graph").add(2, "branch").add(GRAPH_INITIALIZER, tensor)
        branch.add(GRAPH_OUTPUT, Message("value").add(1, "foreign"))
        _prepend_if(graph, branch)
    elif place == "function":
        function = Message("function").add(1, "Foreign").add(10, "local").add(5, "foreign").add(7, node)
        function.add(9, Message("opset").add(1, "").add(2, 23))
        model.add(MODEL_FUNCTION, function)
        model.add(MODEL_OPSET, Message("opset").add(1, "local").add(2, 1))
        call = Message("node").add(NODE_OUTPUT, "foreign").add(NODE_OPERATOR, "Foreign").add(NODE_DOMAIN, "local")
        graph.fields.insert(0, Field(GRAPH_NODE, 2, call))
    else:
        graph.add(GRAPH_INITIALIZER, tensor)
    if random.random() < 0.6:
        _use(graph, "foreign", random)
    return f"{place} from {location}"


def _constant(tensor: Message) -> Message:
    attribute = Message("attribute").add(ATTRIBUTE_NAME, "value").add(ATTRIBUTE_TENSOR, tensor)
    attribute.add(ATTRIBUTE_TYPE, _TYPE_TENSOR)
    return Message("node").add(NODE_OUTPUT, "foreign").add(NODE_OPERATOR, "Constant").add(NODE_ATTRIBUTE, attribute)


def _prepend_if(graph: Message, branch: Message) -> None:
    condition = Message("tensor").add(TENSOR_TYPE, 9).add(TENSOR_NAME, "condition").add(TENSOR_RAW, b"\x01")
    graph.add(GRAPH_INITIALIZER, condition)
    node = Message("node").add(NODE_INPUT, "condition").add(NODE_OUTPUT, "foreign").add(NODE_OPERATOR, "If")
    for name in ("then_branch", "else_branch"):
        attribute = Message("attribute").add(ATTRIBUTE_NAME, name).add(ATTRIBUTE_GRAPH, copy.deepcopy(branch))
        node.add(NODE_ATTRIBUTE, attribute.add(ATTRIBUTE_TYPE, _TYPE_GRAPH))
    graph.fields.insert(0, Field(GRAPH_NODE, 2, node))


def _use(graph: Message, name: str, random: random.Random) -> None:
    """Let a node of the graph read a value, so that no engine drops it as unused."""
    nodes = [node for node in graph.children(GRAPH_NODE) if node.first(NODE_INPUT) is not None]
    if nodes:
        inputs = [one for one in random.choice(nodes).fields if one.number == NODE_INPUT]
        random.choice(inputs).value = name.encode()


def _other_operator(model: Message, random: random.Random, outside: Path) -> str:
    node = random.choice(_graph(model).children(GRAPH_NODE) or [Message("node")])
    operator = random.choice(_OPERATORS)
    before = node.text(NODE_OPERATOR)
    node.fields = [one for one in node.fields if one.number != NODE_OPERATOR]
    node.add(NODE_OPERATOR, operator)
    return f"{before} becomes {operator}"


def _other_domain(model: Message, random: random.Random, outside: Path) -> str:
    domain = random.choice(_DOMAINS)
    node = random.choice(_graph(model).children(GRAPH_NODE) or [Message("node")])
    node.add(NODE_DOMAIN, domain)
    if random.random() < 0.7:
        model.add(MODEL_OPSET, Message("opset").add(1, domain).add(2, random.choice((1, 23, 99))))
    return domain


def _other_edge(model: Message, random: random.Random, outside: Path) -> str:
    """Let a node read another value: of another shape, of a later node, or none."""
    graph = _graph(model)
    names = [one.value for node in graph.children(GRAPH_NODE) for one in node.fields if one.number == NODE_OUTPUT]
    names += [b"input_ids", b"attention_mask", b"", *(tensor.text(TENSOR_NAME).encode() for tensor in
              graph.children(GRAPH_INITIALIZER))]  # fmt: skip
    edges = [one for node in graph.children(GRAPH_NODE) for one in node.fields if one.number == NODE_INPUT]
    if not edges:
        return "none"
    edge = random.choice(edges)
    edge.value = random.choice(names)
    return f"input {edge.value!r}"


def _other_output(model: Message, random: random.Random, outside: Path) -> str:
    """Let the graph give the value of another node under the output's name."""
    graph = _graph(model)
    last = next(
        (one for node in reversed(graph.children(GRAPH_NODE)) for one in node.fields if one.number == NODE_OUTPUT), None
    )
    if last is None:
        return "none"
    name, last.value = last.value, b"renamed"
    names = [one.value for node in graph.children(GRAPH_NODE) for one in node.fields if one.number == NODE_OUTPUT]
    operator, extra = random.choice((("Identity", ()), ("ReduceSum", ()), ("Expand", ("shape",)), ("Transpose", ())))
    node = Message("node").add(NODE_INPUT, random.choice(names)).add(NODE_OPERATOR, operator)
    for one in extra:
        node.add(NODE_INPUT, one)
        shape = Message("tensor").add(TENSOR_SHAPE, 2).add(TENSOR_TYPE, 7).add(TENSOR_NAME, one)
        values = (random.choice((1, 2, 3, 2**20, 2**31)), random.choice((1, 24, 2**20)))
        graph.add(GRAPH_INITIALIZER, shape.add(TENSOR_RAW, b"".join(value.to_bytes(8, "little") for value in values)))
    graph.add(GRAPH_NODE, node.add(NODE_OUTPUT, name))
    return f"{operator} of another value"


def _many(model: Message, random: random.Random, outside: Path) -> str:
    """Nest or repeat without end."""
    graph = _graph(model)
    depth = random.choice((10, 60, 120, 1000))
    if random.random() < 0.5:
        # As bytes, which this program need not recurse into.
        inner = Message("graph").add(2, "inner").to_bytes()
        for _ in range(depth):
            attribute = Message("attribute").add(ATTRIBUTE_NAME, "body").add(ATTRIBUTE_GRAPH, inner)
            node = (
                Message("node")
                .add(NODE_OPERATOR, "Loop")
                .add(NODE_ATTRIBUTE, attribute.add(ATTRIBUTE_TYPE, _TYPE_GRAPH))
            )
            inner = Message("graph").add(GRAPH_NODE, node).to_bytes()
        graph.fields.extend(parse(inner, "opaque").fields)
        return f"subgraphs {depth} deep"
    for index in range(depth):
        node = (
            Message("node").add(NODE_INPUT, f"n{index}").add(NODE_OUTPUT, f"n{index + 1}").add(NODE_OPERATOR, "Concat")
        )
        graph.add(GRAPH_NODE, node.add(NODE_INPUT, f"n{index}"))
    return f"{depth} more nodes"


def _other_constant(model: Message, random: random.Random, outside: Path) -> str:
    """Change a small constant that the graph holds itself: shapes, axes, scales."""
    tensors = [one for one in model.walk() if one.kind == "tensor" and isinstance(one.first(TENSOR_RAW), bytes)]
    if not tensors:
        return "none"
    tensor = random.choice(tensors)
    raw = next(one for one in tensor.fields if one.number == TENSOR_RAW)
    assert isinstance(raw.value, bytes)
    size = 8 if tensor.first(TENSOR_TYPE) == 7 else 4
    if len(raw.value) < size:
        return "none"
    place = random.randrange(len(raw.value) // size) * size
    integer = random.choice(_INTEGERS) & (2 ** (8 * size) - 1)
    special = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f")
    value = (
        random.choice((integer.to_bytes(size, "little"), random.choice(special)))
        if size == 4
        else integer.to_bytes(8, "little")
    )
    raw.value = raw.value[:place] + value + raw.value[place + size :]
    return f"{tensor.text(TENSOR_NAME)[-60:]} at byte {place}"


_ACTIONS: dict[str, Callable[[Message, random.Random, Path], str]] = {
    "read elsewhere": _read_elsewhere,
    "another operator": _other_operator,
    "another domain": _other_domain,
    "another edge": _other_edge,
    "another output": _other_output,
    "another constant": _other_constant,
    "many": _many,
}
