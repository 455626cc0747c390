"""Which weights of a graph are parts of others: a head tied to the table of embeddings multiplies with parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir


def parts_of_others(weights: Sequence[ir.Value]) -> dict[ir.Value, tuple[ir.Value, int]]:
    """Return for each weight that lies within another's memory that other, and the bytes from its beginning.

    Of several that take the same memory the first is no part.
    """
    places: dict[int, list[tuple[int, int, ir.Value]]] = {}
    for value in weights:
        if (place := _memory(value.const_value)) is not None:
            storage, begin, end = place
            places.setdefault(storage, []).append((begin, end, value))
    parts: dict[ir.Value, tuple[ir.Value, int]] = {}
    for found in places.values():
        # Of those that begin at one place the largest first; sorting keeps the order of equals.
        found.sort(key=lambda entry: (entry[0], -entry[1]))
        begin, end, owner = found[0]
        for first, last, value in found[1:]:
            if last <= end:
                parts[value] = owner, first - begin
            else:
                begin, end, owner = first, last, value
    return parts


def _memory(tensor: ir.TensorProtocol | None) -> tuple[int, int, int] | None:
    """Return a tensor of torch's as its storage and the bytes of it that it takes, None for any other."""
    raw: Any = getattr(tensor, "raw", None)
    # By what it has and not by its class: grafts are written without torch.
    if not hasattr(raw, "untyped_storage") or not raw.is_contiguous():
        return None
    begin = raw.storage_offset() * raw.element_size()
    return raw.untyped_storage().data_ptr(), begin, begin + raw.nbytes
