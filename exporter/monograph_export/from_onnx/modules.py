"""The modules behind pooling, each in NumPy and as ONNX operators: from a text's vector to a text's vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from monograph_export.from_onnx.operators import Appender

# torch's.
_LAYER_NORM_EPSILON = 1e-5
_MIN_NORM = 1e-12

Weights = NDArray[np.float32]
Vectors = NDArray[np.float64]


class Module(Protocol):
    """What every module here has."""

    @property
    def width(self) -> int:
        """The columns of what comes out."""

    def compute(self, vectors: Vectors) -> Vectors:
        """Return what the module makes of vectors, float64 [n, d] to [n, ``width``]."""

    def append(self, append: Appender, vectors: ir.Value) -> ir.Value:
        """Append the same to a graph, float32 [batch, d] to [batch, ``width``]."""


@dataclass(frozen=True)
class Activation:
    """A function of each value, in NumPy and as ONNX operators."""

    compute: Callable[[Vectors], Vectors]
    append: Callable[[Appender, ir.Value], ir.Value]


def _append_gelu(append: Appender, value: ir.Value) -> ir.Value:
    # Written out: the operator of that name is there from opset 20 on.
    error = append.op("Erf", append.op("Mul", value, append.constant(math.sqrt(0.5))))
    half = append.op("Mul", value, append.constant(0.5))
    return append.op("Mul", half, append.op("Add", error, append.constant(1)))


_erf = np.vectorize(math.erf, otypes=[np.float64])
# By the names of torch.nn, of which a config states the path.
ACTIVATIONS: Mapping[str, Activation] = {
    "Identity": Activation(lambda x: x, lambda _, value: value),
    "Tanh": Activation(np.tanh, lambda append, value: append.op("Tanh", value)),
    "ReLU": Activation(lambda x: np.maximum(x, 0), lambda append, value: append.op("Relu", value)),
    "Sigmoid": Activation(lambda x: 1 / (1 + np.exp(-x)), lambda append, value: append.op("Sigmoid", value)),
    "SiLU": Activation(
        lambda x: x / (1 + np.exp(-x)), lambda append, value: append.op("Mul", value, append.op("Sigmoid", value))
    ),
    "GELU": Activation(lambda x: 0.5 * x * (1 + _erf(x * math.sqrt(0.5))), _append_gelu),
}


@dataclass(frozen=True)
class Dense:
    """A linear layer, its activation, and beside them the vector itself where the layer is residual.

    ``weight`` is [out, in] and ``bias`` [out] or None; ``residual`` is False, True, or [out, in] where the vector
    beside is brought to the layer's width.
    """

    weight: Weights
    bias: Weights | None
    activation: Activation
    residual: Weights | bool = False

    @property
    def width(self) -> int:
        """The columns of what comes out."""
        return len(self.weight)

    def compute(self, vectors: Vectors) -> Vectors:
        """Return what the layer makes of vectors, float64 [n, in] to [n, out]."""
        linear = vectors @ self.weight.T.astype(np.float64)
        result = self.activation.compute(linear if self.bias is None else linear + self.bias)
        if self.residual is False:
            return result
        return result + (vectors if self.residual is True else vectors @ self.residual.T.astype(np.float64))

    def append(self, append: Appender, vectors: ir.Value) -> ir.Value:
        """Append the layer, float32 [batch, in] to [batch, out]."""
        result = append.op("MatMul", vectors, append.constant(self.weight.T))
        if self.bias is not None:
            result = append.op("Add", result, append.constant(self.bias))
        result = self.activation.append(append, result)
        if self.residual is False:
            return result
        if self.residual is True:
            return append.op("Add", result, vectors)
        return append.op("Add", result, append.op("MatMul", vectors, append.constant(self.residual.T)))


@dataclass(frozen=True)
class LayerNorm:
    """Each vector brought to mean 0 and variance 1, then scaled and moved; ``weight`` and ``bias`` are [d]."""

    weight: Weights
    bias: Weights

    @property
    def width(self) -> int:
        """The columns of what comes out."""
        return len(self.weight)

    def compute(self, vectors: Vectors) -> Vectors:
        """Return the vectors normalized, float64 [n, d]."""
        centered = vectors - vectors.mean(axis=1, keepdims=True)
        variance = (centered**2).mean(axis=1, keepdims=True)
        return np.asarray(centered / np.sqrt(variance + _LAYER_NORM_EPSILON) * self.weight + self.bias)

    def append(self, append: Appender, vectors: ir.Value) -> ir.Value:
        """Append the same, float32 [batch, d]; written out, for the operator is there from opset 17 on."""
        centered = append.op("Sub", vectors, append.over("ReduceMean", vectors, 1, keep=True))
        variance = append.over("ReduceMean", append.op("Mul", centered, centered), 1, keep=True)
        deviation = append.op("Sqrt", append.op("Add", variance, append.constant(_LAYER_NORM_EPSILON)))
        scaled = append.op("Mul", append.op("Div", centered, deviation), append.constant(self.weight))
        return append.op("Add", scaled, append.constant(self.bias))


@dataclass(frozen=True)
class Normalize:
    """Each vector brought to length 1."""

    width: int

    def compute(self, vectors: Vectors) -> Vectors:
        """Return the vectors at length 1, float64 [n, d]."""
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM))

    def append(self, append: Appender, vectors: ir.Value) -> ir.Value:
        """Append the same, float32 [batch, d]."""
        norm = append.op("Max", append.over("ReduceL2", vectors, 1, keep=True), append.constant(_MIN_NORM))
        return append.op("Div", vectors, norm)
