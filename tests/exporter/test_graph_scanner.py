"""The runtime's scanner against onnx's own parser: what onnx sees in a damaged graph, the scanner has refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from onnx import helper

from monograph.bundle.graph_scanner import WeightsFile, scan_graph

DATA = Path(__file__).parents[1] / "data"
NAME = "model.onnx.data"
FOREIGN = [b"../secret", b"Loop", b"location", b"\x72\x01\x01", b"\x70\x01", b"\x3a\x02\x0a\x00", b"\x0b", b"\x6a\x00"]
VALUES = ["../secret", "", "0", "-1", "99999999999999999999", NAME]


def tensors() -> onnx.ModelProto:
    """A small model with external data wherever a tensor can be."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": NAME, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [], [tensor])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    main = helper.make_graph([constant, chosen], "main", [], [], [tensor])
    return helper.make_model(main, opset_imports=[helper.make_opsetid("", 23)])


def messages(message: Message) -> Iterator[Message]:
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from messages(part)


def is_harmful(model: onnx.ModelProto, size: int) -> bool:
    parts = list(messages(model))
    tensors = [part for part in parts if isinstance(part, onnx.TensorProto)]
    nodes = [part for part in parts if isinstance(part, onnx.NodeProto)]
    return (
        bool(model.functions or model.training_info)
        or any(node.op_type in ("Loop", "Scan") or node.domain not in ("", "ai.onnx") for node in nodes)
        or any(opset.domain not in ("", "ai.onnx") for opset in model.opset_import)
        or not all(is_within(tensor, size) for tensor in tensors if tensor.external_data or tensor.data_location)
    )


def is_within(tensor: onnx.TensorProto, size: int) -> bool:
    places = [(entry.key, entry.value) for entry in tensor.external_data]
    place = dict(places)
    if len(places) != 3 or place.get("location") != NAME:
        return False
    offset, length = place.get("offset", ""), place.get("length", "")
    return offset.isdecimal() and length.isdecimal() and int(offset) + int(length) <= size


def damage_bytes(chance: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    place, other = chance.randrange(len(content)), chance.randrange(len(content))
    match chance.randrange(6):
        case 0:
            damaged[place] ^= 1 << chance.randrange(8)
        case 1:
            del damaged[place : place + chance.randrange(1, 20)]
        case 2:
            damaged[place:place] = content[other : other + chance.randrange(1, 64)]
        case 3:
            damaged[place:place] = chance.choice(FOREIGN)
        case 4:
            damaged[place] = chance.randrange(256)
        case _:
            damaged += content
    return bytes(damaged)


def damage_messages(chance: random.Random, content: bytes) -> bytes:
    model = onnx.ModelProto.FromString(content)
    parts = list(messages(model))
    part = chance.choice(parts)
    if isinstance(part, onnx.StringStringEntryProto):
        part.value = chance.choice(VALUES)
    elif isinstance(part, onnx.TensorProto):
        part.data_location = onnx.TensorProto.EXTERNAL
        part.external_data.add(key=chance.choice(["location", "offset", "checksum"]), value=chance.choice(VALUES))
    elif isinstance(part, onnx.NodeProto):
        part.op_type = chance.choice(["Loop", "Scan", "Relu"])
    else:
        part.MergeFrom(chance.choice([other for other in parts if type(other) is type(part)]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("seed", range(4))
def test_the_scanner_sees_what_onnx_sees(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - chance, not a secret
    bundle = DATA / chance.choice(["embedding", "embedding-int8", "rerank", "sparse"])
    size = (bundle / NAME).stat().st_size
    sources = [tensors().SerializeToString(), (bundle / "model.onnx").read_bytes()]
    assert all(scan_graph(source, WeightsFile(NAME, size), [""]) == [] for source in sources)
    harmful = 0
    for _ in range(150):
        damage = chance.choice([damage_bytes, damage_messages])
        content = damage(chance, chance.choice(sources))
        try:
            model = onnx.ModelProto.FromString(content)
        except DecodeError:
            continue
        if is_harmful(model, size):
            harmful += 1
            assert scan_graph(content, WeightsFile(NAME, size), [""]), content
    assert harmful > 10
