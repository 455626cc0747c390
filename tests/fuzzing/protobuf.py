"""Protobuf messages as trees of their fields, for mutations: read, changed and written without a schema's checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_VARINT, _FIXED64, _BYTES = 0, 1, 2


@dataclass
class Field:
    """A field of a message: a number, bytes (of fixed-size numbers too), or a message where the schema has one."""

    number: int
    wire_type: int
    value: int | bytes | Message


@dataclass
class Message:
    """A message; ``kind`` is its name in a schema."""

    kind: str
    fields: list[Field] = field(default_factory=list)

    def add(self, number: int, value: int | bytes | str | Message) -> Message:
        """Append a field and return the message."""
        value = value.encode() if isinstance(value, str) else value
        self.fields.append(Field(number, _VARINT if isinstance(value, int) else _BYTES, value))
        return self

    def first(self, number: int) -> int | bytes | Message | None:
        """Return the value of the first field of a number."""
        return next((one.value for one in self.fields if one.number == number), None)

    def text(self, number: int) -> str:
        """Return the first field of a number as text, "" where there is none."""
        value = self.first(number)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def children(self, number: int) -> list[Message]:
        """Return the messages in the fields of a number."""
        return [one.value for one in self.fields if one.number == number and isinstance(one.value, Message)]

    def walk(self) -> Iterator[Message]:
        """Yield the message and all within it."""
        yield self
        for one in self.fields:
            if isinstance(one.value, Message):
                yield from one.value.walk()

    def to_bytes(self) -> bytes:
        """Return the message as protobuf writes it."""
        return b"".join(map(_field_bytes, self.fields))


# The fields of ONNX's messages that are messages.
ONNX: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 14: "entry", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 15: "sparse_tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: "entry"},
    "value": {2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dimension"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
}


def parse(content: bytes, kind: str = "model") -> Message:
    """Return the message of well-formed bytes."""
    message, place = Message(kind), 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value: int | bytes | Message
            value, place = _varint(content, place)
        elif wire_type == _BYTES:
            size, place = _varint(content, place)
            value, place = content[place : place + size], place + size
            if child := ONNX.get(kind, {}).get(number):
                value = parse(value, child)
        else:
            size = 8 if wire_type == _FIXED64 else 4
            value, place = content[place : place + size], place + size
        message.fields.append(Field(number, wire_type, value))
    return message


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _varint_bytes(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field_bytes(one: Field) -> bytes:
    key = _varint_bytes(one.number << 3 | one.wire_type)
    if isinstance(one.value, int):
        return key + _varint_bytes(one.value)
    value = one.value.to_bytes() if isinstance(one.value, Message) else one.value
    return key + (_varint_bytes(len(value)) if one.wire_type == _BYTES else b"") + value
