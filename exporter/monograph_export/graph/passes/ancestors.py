"""What a value of a graph is computed of."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def ancestors(values: Iterable[ir.Value], *, of_sizes: bool = True) -> set[ir.Value]:
    """Return the values and all that they are computed of; without ``of_sizes`` not what only a Shape reads."""
    found: set[ir.Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in found:
            continue
        found.add(value)
        if node is not None and (of_sizes or node.op_type != "Shape"):
            waiting.extend(operand for operand in node.inputs if operand is not None)
    return found
