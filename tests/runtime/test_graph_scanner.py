"""Graphs that reach for more than their weights are refused before any engine sees them, also at the fast check.

There is no onnx here: messages are written field by field, and put into the graph of the committed bundle.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, Embedder
from monograph.bundle import open_bundle
from monograph.bundle.graph_scanner import MAX_GRAPH_BYTES, WeightsFile, scan_graph

Replace = Callable[[str, bytes], None]
Edit = Callable[[Callable[[dict[str, Any]], object]], None]
WEIGHTS = WeightsFile("model.onnx.data", 1000)
PLACE = {"location": "model.onnx.data", "offset": "8", "length": "16"}


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message: a number, or bytes, strings and messages with their size before them."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def entries(place: dict[str, str]) -> bytes:
    return b"".join(field(13, field(1, key) + field(2, value)) for key, value in place.items())


def external(place: dict[str, str] | None = None, *, data_location: bytes = field(14, 1), data_type: int = 1) -> bytes:
    """A tensor of four float32 values outside the graph."""
    return (
        field(1, 4) + field(2, data_type) + field(8, "w") + entries(PLACE if place is None else place) + data_location
    )


def node(operator: str, *attributes: bytes, domain: str = "") -> bytes:
    named = field(4, operator) + b"".join(field(5, attribute) for attribute in attributes)
    return named + (field(7, domain) if domain else b"")


def model(graph: bytes = b"", rest: bytes = b"", *, opsets: bytes = field(8, field(2, 23))) -> bytes:
    return field(1, 10) + field(7, graph) + opsets + rest


# Where a graph can have a tensor, with the tensor there.
HOLDERS: dict[str, Callable[[bytes], bytes]] = {
    "initializer": lambda tensor: model(field(5, tensor)),
    "constant": lambda tensor: model(field(1, node("Constant", field(1, "value") + field(5, tensor)))),
    "list of tensors": lambda tensor: model(field(1, node("Constant", field(10, tensor)))),
    "branch": lambda tensor: model(field(1, node("If", field(6, field(5, tensor))))),
    "list of graphs": lambda tensor: model(field(1, node("If", field(11, field(5, tensor))))),
    "branch of a branch": lambda tensor: model(
        field(1, node("If", field(6, field(1, node("If", field(6, field(1, node("C", field(5, tensor)))))))))
    ),
}
LOCATIONS = [
    "../secret",
    "/etc/passwd",
    "./model.onnx.data",
    "model.onnx.data/../../secret",
    "other.onnx.data",
    "model.onnx",
    "manifest.json",
    "model.onnx.data\0",
    "MODEL.ONNX.DATA",
    "",
    "*/_ORT_MEM_ADDR_/*",
    "/proc/self/mem",
    "C:\\secret",
]


def problems(content: bytes, *op_domains: str) -> list[str]:
    return scan_graph(content, WEIGHTS, op_domains or ("ai.onnx",))


@pytest.mark.parametrize("holder", HOLDERS)
def test_weights_are_read_from_their_own_file_wherever_a_tensor_is(holder: str) -> None:
    assert problems(HOLDERS[holder](external())) == []
    for location in LOCATIONS:
        (problem,) = problems(HOLDERS[holder](external(PLACE | {"location": location})))
        assert problem.startswith("has weights at ")
        assert problem.isprintable()


@pytest.mark.parametrize(
    "graph",
    [
        field(15, field(1, external())),
        field(1, node("Constant", field(22, field(2, external())))),
        field(1, node("Constant", field(23, field(1, external())))),
    ],
)
def test_a_sparse_tensor_is_refused_wherever_it_is(graph: bytes) -> None:
    (problem,) = problems(model(graph))
    assert problem.startswith("is not an ONNX graph as a bundle has it")


PLACES: dict[str, dict[str, str]] = {
    "beyond the end": PLACE | {"offset": "985"},
    "far beyond": PLACE | {"offset": str(2**63 - 1)},
    "beyond 64 bits": PLACE | {"offset": str(2**64 + 8)},
    "before the beginning": PLACE | {"offset": "-8"},
    "a length that wraps": PLACE | {"length": str(2**64 - 8)},
    "a shorter length": PLACE | {"length": "12"},
    "a longer length": PLACE | {"length": "20"},
    "a sign": PLACE | {"offset": "+8"},
    "a space": PLACE | {"offset": " 8"},
    "hexadecimal": PLACE | {"offset": "0x8"},
    "digits of another script": PLACE | {"offset": "٨"},
    "a leading zero": PLACE | {"offset": "08"},
    "an empty offset": PLACE | {"offset": ""},
    "no length": {"location": "model.onnx.data", "offset": "8"},
    "no location": {"offset": "8", "length": "16"},
    "another key": PLACE | {"checksum": "00"},
    "a key in place of another": {"location": "model.onnx.data", "offset": "8", "basepath": "/"},
    "nothing": {},
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_not_within_the_weights_is_refused(name: str) -> None:
    assert len(problems(model(field(5, external(PLACES[name]))))) == 1


def test_a_place_is_stated_once_and_only_for_what_lies_outside() -> None:
    twice = external() + entries({"location": "../secret"})
    inside = field(1, 4) + field(2, 1) + entries(PLACE) + field(9, bytes(16))
    both = external() + field(9, bytes(16))
    other_values = external(data_location=field(14, 0))
    for tensor in (twice, inside, both, other_values):
        assert len(problems(model(field(5, tensor)))) == 1, tensor


@pytest.mark.parametrize("location", [field(14, 2), field(14, 2**32 + 1), field(14, 0) + field(14, 1)], ids=bytes.hex)
def test_a_data_location_that_parsers_read_differently_is_refused(location: bytes) -> None:
    assert len(problems(model(field(5, external(data_location=location))))) == 1


def tensor(data_type: int, number: int, content: bytes) -> bytes:
    return field(1, 3) + field(2, data_type) + field(number, content)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (tensor(1, 9, bytes(12)), tensor(1, 9, bytes(8))),
        (tensor(1, 4, bytes(12)), tensor(1, 4, bytes(16))),
        (tensor(7, 7, varint(1) + varint(300) + varint(2**64 - 1)), tensor(7, 7, varint(1) + varint(300))),
        (tensor(3, 5, bytes(3)), tensor(3, 5, bytes(2))),
        (tensor(11, 10, bytes(24)), tensor(11, 10, bytes(12))),
        (tensor(22, 9, bytes(2)), tensor(22, 9, bytes(3))),
        (tensor(13, 11, bytes(3)), tensor(13, 7, bytes(3))),
        (field(1, 0) + field(2, 1), field(2, 1)),
        (tensor(10, 9, bytes(6)), tensor(10, 9, bytes(6)) + field(5, bytes(3))),
    ],
)
def test_a_tensor_has_as_many_values_as_its_shape(right: bytes, wrong: bytes) -> None:
    assert problems(model(field(5, right))) == []
    assert len(problems(model(field(5, wrong)))) == 1


@pytest.mark.parametrize("data_type", [0, 8, 14, 15, 99, 2**31])
def test_a_data_type_of_unknown_size_is_refused(data_type: int) -> None:
    assert len(problems(model(field(5, external(data_type=data_type))))) == 1


def test_shapes_without_end_are_refused_at_once() -> None:
    assert len(problems(model(field(5, field(1, 2**62) * 200_000 + field(2, 1))))) == 1
    assert len(problems(model(field(5, field(1, 2**63) + field(2, 1))))) == 1


GRAPHS: dict[str, bytes] = {
    "a loop": model(field(1, node("Loop"))),
    "a loop in a branch": model(field(1, node("If", field(6, field(1, node("Loop", field(6, b""))))))),
    "a scan": model(field(1, node("Scan", field(6, b"")))),
    "a sequence map": model(field(1, node("SequenceMap"))),
    "a compiled blob in a file": model(field(1, node("EPContext", domain="com.microsoft"))),
    "a search": model(field(1, node("GreedySearch", field(6, b""), domain="com.microsoft"))),
    "another domain": model(field(1, node("Magic", domain="com.example"))),
    "a domain not listed": model(field(1, node("Attention", domain="com.microsoft"))),
    "a domain imported": model(opsets=field(8, field(1, "com.example") + field(2, 1))),
    "a domain imported with others": model(opsets=field(8, field(2, 23)) + field(8, field(1, "ai.onnx.ml"))),
    "a domain in a branch": model(field(1, node("If", field(6, field(1, node("Magic", domain="com.example")))))),
    "a local function": model(rest=field(25, field(1, "F"))),
    "training information": model(rest=field(20, field(1, b""))),
    "a configuration": model(rest=field(26, b"")),
    "options of an engine": model(rest=field(14, field(1, "ort_config") + field(2, "{}"))),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_a_graph_must_not_have_is_refused(name: str) -> None:
    domains = ("", "com.microsoft") if name in ("a search", "a compiled blob in a file") else ("",)
    assert problems(GRAPHS[name], *domains)


def test_metadata_branches_and_listed_domains_are_not_refused() -> None:
    branch = field(1, node("If", field(6, field(1, node("Relu")))))
    fused = field(1, node("Attention", domain="com.microsoft"))
    metadata = field(14, field(1, "author") + field(2, "me"))
    assert problems(model(branch + fused, metadata), "ai.onnx", "com.microsoft") == []


NODE_IN_GROUP = varint(1 << 3 | 3) + node("Loop") + varint(1 << 3 | 4)
MESSAGES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"this is no graph",
    "all bytes": bytes(range(256)) * 8,
    "no graph": field(1, 10),
    "two graphs": model() + field(7, field(5, external())),
    "bytes behind it": model() + b"\0",
    "an unknown field": model(rest=field(99, b"")),
    "an unknown field in a tensor": model(field(5, external() + field(3, b""))),
    "a group": model(NODE_IN_GROUP),
    "another wire type": model(rest=varint(7 << 3) + varint(3)),
    "a long tag": model(b"\x8a\x00" + field(1, node("Loop"))[1:]),
    "a long size": b"\x08\x0a\x3a\x80\x00",
    "a number without end": b"\x08" + b"\xff" * 20,
    "a size beyond the message": model()[:-1],
    "a size beyond 64 bits": b"\x3a" + b"\xff" * 9 + b"\x7f",
    "packed dimensions": model(field(5, field(1, varint(4)) + external()[2:])),
    "two data types": model(field(5, external() + field(2, 1))),
    "two operators": model(field(1, node("Relu") + field(4, "Loop"))),
    "two domains": model(field(1, node("Relu", domain="ai.onnx") + field(7, "com.example"))),
    "two tensors in an attribute": model(field(1, node("Constant", field(5, external()) + field(5, external())))),
    "two keys": model(field(5, external({}) + field(13, field(1, "location") * 2))),
    "a reference in an attribute": model(field(1, node("Constant", field(21, "value")))),
    "the format of ONNX Runtime": field(1, 10) + field(2, "ORTM" + "x" * 20) + model(),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_no_serializer_writes_is_refused(name: str) -> None:
    (problem,) = problems(MESSAGES[name])
    assert problem.isprintable()


def test_graphs_in_graphs_are_bounded() -> None:
    content = field(1, node("Relu"))
    for _ in range(5000):
        content = field(1, node("If", field(6, content)))
    (problem,) = problems(model(content))
    assert "nested" in problem


def test_every_length_of_a_real_graph_but_its_own_is_refused(tiny_bundle: Path) -> None:
    content = (tiny_bundle / "model.onnx").read_bytes()
    weights = WeightsFile("model.onnx.data", (tiny_bundle / "model.onnx.data").stat().st_size)
    assert scan_graph(content, weights, ["ai.onnx"]) == []
    for length in range(0, len(content), 61):
        assert scan_graph(content[:length], weights, ["ai.onnx"]), length


def test_problems_are_few_and_short() -> None:
    worst = external(PLACE | {"location": "\n" * 10_000})
    found = problems(model(b"".join(field(1, node("N" * 5000, field(6, b""), domain=f"d{i}")) for i in range(99))))
    assert len(found) == 9
    assert max(map(len, [*found, *problems(model(field(5, worst)))])) < 300


def with_initializer(bundle: Path, content: bytes) -> bytes:
    """The graph of a bundle, with one initializer more: fields of a message may stand in any order."""
    graph_tag = bytes([7 << 3 | 2])
    original = (bundle / "model.onnx").read_bytes()
    # Version, and the producer's name and version, stand before the graph.
    start = original.index(graph_tag, original.index(b"pytorch") + 7)
    while True:
        size, shift, place = 0, 0, start + 1
        while True:
            size |= (original[place] & 0x7F) << shift
            shift, place = shift + 7, place + 1
            if original[place - 1] < 0x80:
                break
        if place + size <= len(original) and original[place + size :].startswith(bytes([8 << 3 | 2])):
            graph = original[place : place + size] + field(5, content)
            return original[:start] + field(7, graph) + original[place + size :]
        start = original.index(graph_tag, start + 1)


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
@pytest.mark.parametrize("location", ["../secret", "*/_ORT_MEM_ADDR_/*", "linked", "beside.onnx.data"])
def test_no_engine_is_given_a_graph_that_reads_another_file(
    device: str, location: str, bundle_copy: Path, replace_file: Replace
) -> None:
    secret = struct.pack("<4f", 1, 2, 3, 4)
    (bundle_copy.parent / "secret").write_bytes(secret)
    (bundle_copy / "beside.onnx.data").write_bytes(secret)
    os.symlink(bundle_copy.parent / "secret", bundle_copy / "linked")  # noqa: PTH211 - shorter
    place = {"location": location, "offset": "0", "length": "16"}
    replace_file("model.onnx", with_initializer(bundle_copy, external(place)))
    with pytest.raises(BundleError, match=r"model\.onnx has weights at '.*', and its weights are model\.onnx\.data"):
        Embedder(bundle_copy, device=device)


def test_a_graph_with_one_initializer_more_is_opened(bundle_copy: Path, replace_file: Replace) -> None:
    replace_file("model.onnx", with_initializer(bundle_copy, external(PLACE | {"offset": "0"})))
    with Embedder(bundle_copy, device="cpu") as model:
        assert model.encode("a").shape == (24,)


def test_problems_of_graphs_and_files_come_in_one_error(bundle_copy: Path, replace_file: Replace) -> None:
    replace_file("model.onnx", MESSAGES["text"])
    with (bundle_copy / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle_copy)
    assert len(caught.value.problems) == 2


def test_a_graph_larger_than_any_is_not_read(bundle_copy: Path, replace_file: Replace) -> None:
    replace_file("model.onnx", bytes(MAX_GRAPH_BYTES + 1))
    with pytest.raises(BundleError, match=r"its graphs have .* bytes, more than"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["model.onnx.data", "g.onnx.data", "model.xml", "model.ort", "model"])
def test_a_graph_of_another_name_is_refused(name: str, bundle_copy: Path, edit_manifest: Edit) -> None:
    (bundle_copy / "model.onnx").rename(bundle_copy / name)

    def rename(value: dict[str, Any]) -> None:
        value["files"][name] = value["files"].pop("model.onnx")
        value["graphs"][0]["file"] = name

    edit_manifest(rename)
    with pytest.raises(BundleError, match=rf"the graph '{name}' is not named \*\.onnx"):
        open_bundle(bundle_copy)


def test_a_tokenizer_of_the_name_of_weights_is_refused(bundle_copy: Path, edit_manifest: Edit) -> None:
    (bundle_copy / "tokenizer.json").rename(bundle_copy / "t.onnx.data")

    def rename(value: dict[str, Any]) -> None:
        value["files"]["t.onnx.data"] = value["files"].pop("tokenizer.json")
        value["tokenizer"]["file"] = "t.onnx.data"

    edit_manifest(rename)
    with pytest.raises(BundleError, match=r"the tokenizer 't\.onnx\.data' is named as weights are"):
        open_bundle(bundle_copy)
