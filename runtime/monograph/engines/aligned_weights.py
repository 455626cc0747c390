"""Move the external weights of a graph that ONNX Runtime wrote to aligned places in their file.

ONNX Runtime aligns tensors of more than 1 MB, and lets the others follow each other: behind one of an odd size, such as
the scales of an int8 table, all are unaligned, and its own kernels cannot read them from the mapped file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from monograph.bundle.wire_format import BYTES, FIXED32, VARINT, read_varint
from monograph.errors import MonographError

# The kernels load whole AVX-512 vectors, and an unaligned load crashes the process (seen with 1.31).
ALIGNMENT_BYTES = 64
# As ONNX Runtime does, larger ones begin with a page, of up to 64 KB.
_LARGE_BYTES = 1 << 20
_PAGE_BYTES = 1 << 16
_COPIED_BYTES = 1 << 20
# The fields of ONNX on the way to where a tensor is: ModelProto.graph, GraphProto.initializer,
# TensorProto.external_data, and StringStringEntryProto's key and value.
_INITIALIZERS = (7, 5)
_EXTERNAL_DATA = 13
_KEY, _VALUE = 1, 2
# The key of a kernel's packed blocks; its value is "KERNEL|OFFSET;LENGTH;CHECKSUM;OFFSET;...".
_PACKED = b"prepacked_"
_NUMBERS_PER_BLOCK = 3


def align_weights(graph: Path, weights: Path) -> None:
    """Rewrite the file of a graph's external weights with all tensors and packed blocks aligned, and the graph for it.

    Raises:
        MonographError: the graph has external weights in another place than its initializers.
        OSError: the files cannot be written.

    """
    content = graph.read_bytes()
    aligned = weights.with_name(f"{weights.name}.aligned")
    with weights.open("rb") as source, aligned.open("wb") as target:
        move = _Move(source, target)
        changed = _replace(content, _INITIALIZERS, lambda tensor: _replace_entries(tensor, move))
    if move.tensors != content.count(b"\x0a\x08location"):
        raise MonographError(f"{graph} has weights outside of its initializers")
    aligned.replace(weights)
    graph.write_bytes(changed)


class _Move:
    """Copies ranges of one file to aligned places of another, each once."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source, self._target = source, target
        self._moved: dict[tuple[int, int], int] = {}
        self.tensors = 0

    def __call__(self, offset: int, length: int) -> int:
        """Return the new offset of a range."""
        if (offset, length) not in self._moved:
            alignment = _PAGE_BYTES if length > _LARGE_BYTES else ALIGNMENT_BYTES
            start = -(-self._target.tell() // alignment) * alignment
            self._target.write(bytes(start - self._target.tell()))
            self._source.seek(offset)
            self._copy(length)
            self._moved[offset, length] = start
        return self._moved[offset, length]

    def _copy(self, length: int) -> None:
        while length:
            part = self._source.read(min(length, _COPIED_BYTES))
            if not part:
                raise OSError(None, "the weights are truncated", os.fspath(self._source.name))
            self._target.write(part)
            length -= len(part)


def _replace_entries(tensor: bytes, move: _Move) -> bytes:
    """Return a TensorProto whose external data is where it is moved to."""
    entries = {}
    for number, _, start, stop in _fields(tensor):
        if number == _EXTERNAL_DATA:
            strings = {
                inner: tensor[start + first : start + last] for inner, _, first, last in _fields(tensor[start:stop])
            }
            entries[strings[_KEY]] = strings.get(_VALUE, b"")
    if not entries:
        return tensor
    move.tensors += 1
    entries[b"offset"] = b"%d" % move(int(entries.get(b"offset", b"0")), int(entries[b"length"]))
    for key, value in entries.items():
        if key.startswith(_PACKED):
            kernel, _, blocks = value.rpartition(b"|")
            numbers = blocks.rstrip(b";").split(b";")
            for place in range(0, len(numbers), _NUMBERS_PER_BLOCK):
                numbers[place] = b"%d" % move(int(numbers[place]), int(numbers[place + 1]))
            entries[key] = kernel + b"|" + b";".join(numbers) + (b";" if blocks.endswith(b";") else b"")
    others = b"".join(tensor[begin:stop] for number, begin, _, stop in _fields(tensor) if number != _EXTERNAL_DATA)
    return others + b"".join(
        _field(_EXTERNAL_DATA, _field(_KEY, key) + _field(_VALUE, value)) for key, value in entries.items()
    )


def _replace(content: bytes, path: Sequence[int], change: Callable[[bytes], bytes]) -> bytes:
    """Return a message with those below it at a path of field numbers changed."""
    if not path:
        return change(content)
    return b"".join(
        _field(number, _replace(content[start:stop], path[1:], change)) if number == path[0] else content[begin:stop]
        for number, begin, start, stop in _fields(content)
    )


def _fields(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of each field of a message, where it begins, and the range of its value."""
    position, end = 0, len(content)
    while position < end:
        begin = position
        tag, position = read_varint(content, position, end)
        kind = tag & 7
        if kind == VARINT:
            start, (_, position) = position, read_varint(content, position, end)
        else:
            size = 4 if kind == FIXED32 else 8
            if kind == BYTES:
                size, position = read_varint(content, position, end)
            start, position = position, position + size
        yield tag >> 3, begin, start, position


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
