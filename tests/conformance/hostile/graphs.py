"""Graphs that reach out of their weights, or have what no export writes."""

from __future__ import annotations

from pathlib import Path

import onnx

from conformance.hostile.changes import change_graph, change_graph_bytes, named, restate


def _external(model: onnx.ModelProto) -> onnx.TensorProto:
    tensor: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    return tensor


def _place(model: onnx.ModelProto, key: str, value: str) -> None:
    for entry in _external(model).external_data:
        if entry.key == key:
            entry.value = value


for _kind, _location in {
    "parent": "../outside.bin", "absolute": "/etc/passwd", "other": "tokenizer.json", "memory": "*/_ORT_MEM_ADDR_/*",
    "dotted": "./model.onnx.data", "empty": "",
}.items():  # fmt: skip
    change_graph(f"location-{_kind}", lambda model, place=_location: _place(model, "location", place))  # type: ignore[misc]
for _kind, _offset in {
    "beyond": "99999999",
    "negative": "-4",
    "word": "zero",
    "huge": "9" * 30,
    "octal": "010",
}.items():
    change_graph(f"offset-{_kind}", lambda model, offset=_offset: _place(model, "offset", offset))  # type: ignore[misc]
change_graph("length-other", lambda model: _place(model, "length", "4"))
change_graph("length-missing", lambda model: _external(model).external_data.pop())
change_graph("location-twice", lambda model: _external(model).external_data.add(key="location", value="/etc/passwd"))
change_graph("wrong-dtype", lambda model: setattr(_external(model), "data_type", onnx.TensorProto.DOUBLE))
change_graph("string-tensor", lambda model: setattr(_external(model), "data_type", onnx.TensorProto.STRING))
change_graph("wrong-shape", lambda model: _external(model).dims.append(3))
change_graph("inside-and-outside", lambda model: setattr(_external(model), "raw_data", b"1234"))
change_graph("domain-of-opset", lambda model: model.opset_import.add(domain="com.example", version=1))
change_graph("domain-of-node", lambda model: setattr(model.graph.node[0], "domain", "com.example"))
change_graph("metadata-options", lambda model: model.metadata_props.add(key="ort_config", value="{}"))
change_graph("function", lambda model: model.functions.add(name="f", domain="com.example"))
change_graph("training", lambda model: model.training_info.add())
change_graph("loop", lambda model: model.graph.node.add(op_type="Loop", input=["", ""], output=["unused"]))
change_graph("image", lambda model: model.graph.node.add(op_type="ImageDecoder", input=["x"], output=["unused"]))
change_graph(
    "subgraph",
    lambda model: model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", onnx.GraphProto())),
)
change_graph("sparse-tensor", lambda model: model.graph.sparse_initializer.add())
change_graph("input-renamed", lambda model: setattr(model.graph.input[0], "name", "other"))


@named("graph-garbage")
def _(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"garbage" * 10)
    restate(bundle, "model.onnx")


@named("graph-empty")
def _(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"")
    restate(bundle, "model.onnx")


@named("graph-of-onnxruntime")
def _(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"\x08\x00\x00\x00ORTM" + bytes(100))
    restate(bundle, "model.onnx")


change_graph_bytes("truncated", lambda content: content[:-10])
change_graph_bytes("field-twice", lambda content: content + b"\x08\x0a")
change_graph_bytes("unknown-field", lambda content: content + b"\x98\x06\x01")
change_graph_bytes("second-graph", lambda content: content + b"\x3a\x00")
change_graph_bytes("group", lambda content: content + b"\x3b\x3c")
change_graph_bytes("long-varint", lambda content: b"\x08\x8a\x00" + content[2:])
change_graph_bytes("large", lambda content: content + b"\x32" + b"\x80\x80\x80\x02" + bytes(4 * 2**20))
