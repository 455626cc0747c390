"""Protobuf's wire format, read strictly: only what a serializer writes is accepted.

Parsers forgive a lot: a field that occurs twice, of an unknown number, in another wire type or as a group, a varint of
more bytes than it needs. What one of them merges or skips another may see. So all of that is refused here, and what
remains means the same to every parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_TYPE_BITS, _TYPE_MASK = 3, 7
_MORE = 0x80
# 64 bits, 7 to a byte.
_MAX_VARINT_BYTES = 10
_MAX_VARINT = 2**64 - 1
# The bytes of a varint behind which it goes on.
_CONTINUED = bytes(range(_MORE, 0x100))

# A field's number, its value where it is a varint, and the range of its bytes where it is not.
Field = tuple[int, int, int, int]


class WireFormatError(ValueError):
    """The bytes are not a message that a serializer writes."""


class MessageType:
    """The fields of a message that may occur: their wire types by number. Those of ``repeated`` may occur often."""

    def __init__(self, name: str, wire_types: Mapping[int, int], repeated: Set[int] = frozenset()) -> None:
        self.name = name
        # By the varint before each field: its number, and the bit by which another occurrence is noticed.
        self.tags = {
            number << _TYPE_BITS | wire_type: (number, 0 if number in repeated else 1 << number)
            for number, wire_type in wire_types.items()
        }


def read_fields(content: bytes, message: MessageType, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message in the order of the file; nothing is copied.

    Raises:
        WireFormatError: a field is truncated, unknown, of another wire type, or there twice.

    """
    tags = message.tags
    seen = 0
    position = start
    while position < end:
        tag, position = read_varint(content, position, end)
        try:
            number, bit = tags[tag]
        except KeyError:
            field = f"field {tag >> _TYPE_BITS} of wire type {tag & _TYPE_MASK}"
            raise WireFormatError(f"{message.name} has the {field}") from None
        if seen & bit:
            raise WireFormatError(f"{message.name} has the field {number} twice")
        seen |= bit
        wire_type = tag & _TYPE_MASK
        if wire_type == BYTES:
            value = 0
            size, position = read_varint(content, position, end)
        elif wire_type == VARINT:
            size = 0
            value, position = read_varint(content, position, end)
        else:
            value, size = 0, 4 if wire_type == FIXED32 else 8
        stop = position + size
        if stop > end:
            raise WireFormatError(f"{message.name} is truncated")
        yield number, value, position, stop
        position = stop


def read_varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the unsigned integer at a position, and the position behind it.

    Raises:
        WireFormatError: it is truncated, beyond 64 bits, or of more bytes than it needs.

    """
    if position < end and (first := content[position]) < _MORE:
        return first, position + 1
    value = 0
    for number, byte in enumerate(content[position : min(end, position + _MAX_VARINT_BYTES)]):
        value |= (byte & ~_MORE) << 7 * number
        if byte < _MORE:
            if byte == 0 or value > _MAX_VARINT:
                break
            return value, position + number + 1
    raise WireFormatError("a number is truncated, too large or longer than it needs to be")


def count_varints(content: bytes, start: int, end: int) -> int:
    """Return how many varints a packed field has."""
    return len(content[start:end].translate(None, _CONTINUED))
