"""Values of a graph: new constants, and what a value is computed of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an array to a graph's initializers under a name that it does not have yet, and return its value."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def ancestors(values: Iterable[ir.Value], *, of_sizes: bool = True) -> set[ir.Value]:
    """Return the values and all that they are computed of; without ``of_sizes`` not what only a Shape reads."""
    visited: set[ir.Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in visited:
            continue
        visited.add(value)
        if node is not None and (of_sizes or node.op_type != "Shape"):
            waiting.extend(operand for operand in node.inputs if operand is not None)
    return visited
