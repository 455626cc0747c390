"""Read an ONNX graph before any engine does, and find what it would make an engine read, run or wait for.

A bundle may come from a stranger, who writes its manifest, too. Its graph may read its file of weights and no other,
and have operators of the domains that the manifest lists. The file must be what a serializer writes
(``wire_format``), with the fields of ``onnx.proto`` below: what is not among them, such as a sparse tensor, is refused,
whatever it means.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from monograph.bundle.wire_format import (
    BYTES,
    FIXED32,
    VARINT,
    MessageType,
    WireFormatError,
    count_varints,
    read_fields,
)

# Of all graphs of a bundle: weights of more than 1 KB lie outside, and a graph of 48 layers has 0.5 MB. A graph of
# nothing but empty parts takes 1 s a MB.
MAX_GRAPH_BYTES = 4 * 2**20
_MAX_PROBLEMS = 8
_MAX_QUOTED = 80
# A graph within an If, within another: exporters write one or two.
_MAX_DEPTH = 8
_MAX_RANK = 64
_MAX_INT = 2**63 - 1
_EXTERNAL = 1
_PLACE_KEYS = (b"location", b"offset", b"length")
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,18}")
# The format that ONNX Runtime recognizes by these bytes, whatever the file's name is.
_ORT_FORMAT, _ORT_FORMAT_START = b"ORTM", 4
# ONNX Runtime can be made to take session options, such as a file for profiles, from here.
_ENGINE_OPTIONS = b"ort_config"
# Only its branches are graphs that run once at most. Loop, Scan and SequenceMap are others, as are the searches of
# com.microsoft, which are refused because of their graphs.
_BRANCHING = {b"If"}
# They need not end, or read a file or an image by themselves.
REFUSED_OPERATORS = {b"Loop", b"Scan", b"SequenceMap", b"EPContext", b"ImageDecoder"}
_DEFAULT_DOMAIN = b"ai.onnx"

_ENTRY = MessageType("StringStringEntryProto", {1: BYTES, 2: BYTES})
_OPSET = MessageType("OperatorSetIdProto", {1: BYTES, 2: VARINT})
# Parts of a model that are read only to be refused, in a sentence of their own.
_REFUSED_PARTS = {20: "training information", 25: "local functions", 26: "a configuration"}
_MODEL = MessageType(
    "ModelProto",
    {
        1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES,
        **dict.fromkeys(_REFUSED_PARTS, BYTES),
    },
    {8, 14, *_REFUSED_PARTS},
)  # fmt: skip
_GRAPH = MessageType(
    "GraphProto",
    {1: BYTES, 2: BYTES, 5: BYTES, 10: BYTES, 11: BYTES, 12: BYTES, 13: BYTES, 14: BYTES, 16: BYTES},
    {1, 5, 11, 12, 13, 14, 16},
)
_NODE = MessageType(
    "NodeProto",
    {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: BYTES, 6: BYTES, 7: BYTES, 9: BYTES},
    {1, 2, 5, 9},
)
_ATTRIBUTE = MessageType(
    "AttributeProto",
    {
        1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 5: BYTES, 6: BYTES, 7: FIXED32, 8: VARINT, 9: BYTES, 10: BYTES,
        11: BYTES, 13: BYTES, 14: BYTES, 15: BYTES, 20: VARINT,
    },
    {7, 8, 9, 10, 11, 15},
)  # fmt: skip
_TENSOR = MessageType(
    "TensorProto",
    {
        1: VARINT, 2: VARINT, 4: BYTES, 5: BYTES, 7: BYTES, 8: BYTES, 9: BYTES, 10: BYTES, 11: BYTES, 12: BYTES,
        13: BYTES, 14: VARINT, 16: BYTES,
    },
    {1, 13, 16},
)  # fmt: skip
# TensorProto.DataType with the bits of an element; strings and complex numbers are in no graph of a bundle.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 17: 8, 18: 8, 19: 8,
    20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_RAW = 9
# The field of values that are not raw bytes, by data type; int32_data for all others.
_TYPED = {1: 4, 7: 7, 11: 10, 12: 11, 13: 11}
_INT32_DATA = 5
_VALUES = {*_TYPED.values(), _INT32_DATA}
_FIXED_SIZES = {4: 4, 10: 8}


@dataclass(frozen=True)
class WeightsFile:
    """The file that may have a graph's weights: its name in the bundle's folder, and its size."""

    name: str
    bytes: int


def find_graph_problems(path: Path, weights: WeightsFile, op_domains: Collection[str]) -> list[str]:
    """Return every reason not to give a graph to an engine; ``op_domains`` are those of its entry in the manifest."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_GRAPH_BYTES + 1)
    except OSError as error:
        return [f"{path.name} cannot be read ({error.strerror})"]
    if len(content) > MAX_GRAPH_BYTES:
        return [f"{path.name} was changed while it was read"]
    return [f"{path.name} {problem}" for problem in scan_graph(content, weights, op_domains)]


def scan_graph(content: bytes, weights: WeightsFile, op_domains: Collection[str]) -> list[str]:
    """Return the problems of an ONNX graph's bytes, in time linear in their number."""
    if content.startswith(_ORT_FORMAT, _ORT_FORMAT_START):
        return ["is a graph in the format of ONNX Runtime, not in that of ONNX"]
    scanner = _Scanner(content, weights, {domain.encode(errors="replace") or _DEFAULT_DOMAIN for domain in op_domains})
    try:
        scanner.scan_model()
    except WireFormatError as error:
        scanner.note(f"is not an ONNX graph as a bundle has it ({error})")
    return list(scanner.problems)


@dataclass
class _Tensor:
    """What a tensor says of itself; ``stored`` is the number of its values or raw bytes, by field."""

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    data_location: int = 0
    place: list[tuple[bytes, bytes]] = field(default_factory=list)
    stored: dict[int, int] = field(default_factory=dict)


class _Scanner:
    """Walks a graph once, and notes what is wrong with it."""

    def __init__(self, content: bytes, weights: WeightsFile, domains: Collection[bytes]) -> None:
        self._content = content
        self._weights = weights
        self._domains = domains
        # By their text: many nodes may have the same one.
        self.problems: dict[str, None] = {}

    def note(self, problem: str) -> None:
        """Add a problem, unless there are more than anyone reads."""
        if len(self.problems) >= _MAX_PROBLEMS and problem not in self.problems:
            problem = "has more problems than these"
        self.problems[problem] = None

    def scan_model(self) -> None:
        """Scan the whole file."""
        content = self._content
        graph = None
        for number, _, start, end in read_fields(content, _MODEL, 0, len(content)):
            if number == 7:
                graph = start, end
            elif number == 8:
                self._scan_opset(start, end)
            elif number == 14:
                self._check_metadata(start, end)
            elif number in _REFUSED_PARTS:
                self.note(f"has {_REFUSED_PARTS[number]}, which no export writes")
        if graph is None:
            raise WireFormatError("ModelProto has no graph")
        self._scan_graph(*graph, depth=1)

    def _check_metadata(self, start: int, end: int) -> None:
        key, _ = self._read_entry(start, end)
        if key == _ENGINE_OPTIONS:
            self.note(f"has options of ONNX Runtime ({key.decode()}) in its metadata, which no export writes")

    def _scan_opset(self, start: int, end: int) -> None:
        domain = b""
        for number, _, begin, stop in read_fields(self._content, _OPSET, start, end):
            if number == 1:
                domain = self._content[begin:stop]
        self._check_domain(domain)

    def _check_domain(self, domain: bytes) -> None:
        if (domain or _DEFAULT_DOMAIN) not in self._domains:
            self.note(f"uses operators of {_quote(domain or _DEFAULT_DOMAIN)}, which are not among its op_domains")

    def _scan_graph(self, start: int, end: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise WireFormatError(f"graphs are nested more than {_MAX_DEPTH} deep")
        for number, _, begin, stop in read_fields(self._content, _GRAPH, start, end):
            if number == 1:
                self._scan_node(begin, stop, depth)
            elif number == 5:
                self._scan_tensor(begin, stop)

    def _scan_node(self, start: int, end: int, depth: int) -> None:
        content = self._content
        operator, domain = b"", b""
        attributes = []
        for number, _, begin, stop in read_fields(content, _NODE, start, end):
            if number == 5:
                attributes.append((begin, stop))
            elif number == 4:
                operator = content[begin:stop]
            elif number == 7:
                domain = content[begin:stop]
        if domain:
            self._check_domain(domain)
        if operator in REFUSED_OPERATORS:
            self.note(f"has the operator {operator.decode()}, which no export writes")
        for begin, stop in attributes:
            self._scan_attribute(begin, stop, operator, depth)

    def _scan_attribute(self, start: int, end: int, operator: bytes, depth: int) -> None:
        for number, _, begin, stop in read_fields(self._content, _ATTRIBUTE, start, end):
            if number in (5, 10):
                self._scan_tensor(begin, stop)
            elif number in (6, 11):
                if operator not in _BRANCHING:
                    self.note(f"has a graph within the operator {_quote(operator)}, which no export writes")
                self._scan_graph(begin, stop, depth + 1)

    def _scan_tensor(self, start: int, end: int) -> None:
        content = self._content
        tensor = _Tensor()
        for number, value, begin, stop in read_fields(content, _TENSOR, start, end):
            if number == 1:
                tensor.dims.append(value)
            elif number == 2:
                tensor.data_type = value
            elif number == 8:
                tensor.name = _quote(content[begin:stop])
            elif number == 13:
                tensor.place.append(self._read_entry(begin, stop))
            elif number == 14:
                tensor.data_location = value
            elif number == _RAW:
                tensor.stored[_RAW] = stop - begin
            elif number in _VALUES:
                tensor.stored[number] = self._count_values(number, begin, stop)
        self._check_tensor(tensor)

    def _count_values(self, number: int, start: int, end: int) -> int:
        size = _FIXED_SIZES.get(number)
        return count_varints(self._content, start, end) if size is None else (end - start) // size

    def _read_entry(self, start: int, end: int) -> tuple[bytes, bytes]:
        key = value = b""
        for number, _, begin, stop in read_fields(self._content, _ENTRY, start, end):
            if number == 1:
                key = self._content[begin:stop]
            else:
                value = self._content[begin:stop]
        return key, value

    def _check_tensor(self, tensor: _Tensor) -> None:
        """Note where the values of a tensor are not as many as its shape says, or lie where they may not."""
        if len(tensor.dims) > _MAX_RANK or max(tensor.dims, default=0) > _MAX_INT:
            raise WireFormatError("a tensor has a shape that none has")
        # Parsers take the lowest 32 bits of larger ones.
        if tensor.data_location > _EXTERNAL:
            raise WireFormatError(f"TensorProto has the data_location {tensor.data_location}")
        bits = _BITS.get(tensor.data_type)
        if bits is None:
            self.note(f"has the tensor {tensor.name} of the data type {tensor.data_type}, which no export writes")
            return
        count = prod(tensor.dims)
        size = (count * bits + 7) // 8
        if tensor.data_location == _EXTERNAL:
            if tensor.stored:
                self.note(f"has the tensor {tensor.name} inside and outside the graph")
            self._check_place(tensor, size)
        elif tensor.place:
            self.note(f"has the tensor {tensor.name} with the place of weights that lie in the graph")
        else:
            typed = _TYPED.get(tensor.data_type, _INT32_DATA)
            allowed = {_RAW: size, typed: size if bits < 8 else count}
            if len(tensor.stored) > 1 or any(
                allowed.get(number) != stored for number, stored in (tensor.stored or {_RAW: 0}).items()
            ):
                self.note(f"has the tensor {tensor.name} with more or fewer values than its shape has")

    def _check_place(self, tensor: _Tensor, size: int) -> None:
        place = dict(tensor.place)
        if len(tensor.place) != len(_PLACE_KEYS) or any(key not in place for key in _PLACE_KEYS):
            keys = _quote(b", ".join(key for key, _ in tensor.place[: 2 * len(_PLACE_KEYS)]))
            self.note(f"has the weights {tensor.name} with {keys} instead of location, offset and length")
            return
        location, weights = place[b"location"], self._weights
        if location != weights.name.encode(errors="replace"):
            self.note(f"has weights at {_quote(location)}, and its weights are {weights.name}")
            return
        if any(_DECIMAL.fullmatch(place[key]) is None for key in (b"offset", b"length")):
            self.note(f"has the weights {tensor.name} with an offset or length that is no number")
            return
        offset, length = int(place[b"offset"]), int(place[b"length"])
        if length != size:
            self.note(
                f"has the weights {tensor.name} of {length:,} bytes, where its shape and type take {_short(size)}"
            )
        if offset + length > weights.bytes:
            self.note(f"has the weights {tensor.name} beyond the end of {weights.name}")


def _quote(text: bytes) -> str:
    """Return foreign text, printable and short, in quotes."""
    return ascii(text[:_MAX_QUOTED].decode("utf-8", "replace") + "..." * (len(text) > _MAX_QUOTED))


def _short(size: int) -> str:
    return f"{size:,}" if size <= _MAX_INT else "more than any file has"
