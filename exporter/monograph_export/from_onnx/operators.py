"""Append standard operators to a graph as its opset has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike

# The first opset in which all operators used here exist.
MIN_OPSET = 11
# The opset from which on an operator takes its axes as an input; before, they are an attribute.
_AXES_ARE_AN_INPUT = {"ReduceSum": 13, "Unsqueeze": 13, "ReduceL2": 18, "ReduceMax": 18, "ReduceMean": 18}
# Before the names of what is appended, which the encoder's are not likely to begin with.
_PREFIX = "head/"


class Appender:
    """Appends operators and constants to the end of a graph."""

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self._tape = ir.tape.Tape(graph)
        self._opset = opset
        self._named = 0

    def op(
        self, kind: str, *inputs: ir.Value, attributes: Mapping[str, int | float | list[int]] | None = None
    ) -> ir.Value:
        """Append a standard operator with one output, and return that."""
        output = ir.Value(name=self._name(kind))
        return self._tape.op(kind, inputs, attributes, name=f"{output.name}_node", output=output)

    def over(self, kind: str, value: ir.Value, axis: int, *, keep: bool | None = None) -> ir.Value:
        """Append an operator over one axis; ``keep`` says whether a reduced axis stays, of size 1."""
        attributes: dict[str, int | float | list[int]] = {} if keep is None else {"keepdims": int(keep)}
        if self._opset >= _AXES_ARE_AN_INPUT[kind]:
            return self.op(kind, value, self.constant([axis], np.int64), attributes=attributes)
        return self.op(kind, value, attributes={**attributes, "axes": [axis]})

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Append a cast."""
        return self.op("Cast", value, attributes={"to": int(dtype)})

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.float32) -> ir.Value:
        """Add an initializer."""
        return self._tape.initializer(ir.tensor(np.asarray(value, dtype, order="C")), self._name("value"))

    def _name(self, kind: str) -> str:
        self._named += 1
        return f"{_PREFIX}{kind}_{self._named}"
