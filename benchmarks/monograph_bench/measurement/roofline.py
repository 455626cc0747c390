"""What the machine could do at most, and what of it a graph's useful work is.

Many texts are bound by the rate of the machine's own matrix products, as the installed engines reach it on one large
product; the work is counted from the graph: 2 x rows x columns for each token and weight matrix, and 4 x length^2 x
width for each attention. Padding is no useful work.

A short text is bound by the rate at which memory is read, for it needs all weights for few tokens: all but the tables,
of which it reads some rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from monograph.errors import BundleError

_PRODUCTS = ("MatMul", "Gemm")
# What leaves the number of a weight's values as it is.
_SAME_WEIGHT = ("DequantizeLinear", "Transpose")
# What reads a few rows of a table: its first input.
_LOOKUPS = ("Gather", "GatherBlockQuantized", "Slice")
# Batch, sequence, width; a product of whole texts has no sequence.
_TOKEN_RANK = 3
_WEIGHT_RANK = 2


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a graph: for each token, for each pair of tokens of a text, and for each text."""

    per_token: int
    per_pair: int
    per_text: int

    def of(self, lengths: NDArray[np.int64]) -> int:
        """Return the operations for texts of some numbers of tokens, int64 [n]."""
        tokens, pairs = int(lengths.sum()), int((lengths * lengths).sum())
        return self.per_token * tokens + self.per_pair * pairs + self.per_text * len(lengths)


@dataclass(frozen=True)
class Weights:
    """Bytes of the weights that every call reads, as they are stored: at float32, and of other types."""

    float32: int
    others: int

    def read_at(self, compute_dtype: str) -> int:
        """Return the bytes that an engine reads when it computes at a type; at bfloat16 it keeps its own weights so."""
        return self.others + (self.float32 // 2 if compute_dtype == "bfloat16" else self.float32)


def count_weights(graph_file: Path) -> Weights:
    """Count the weights of a bundle's graph without those that it only looks rows up in; they are not read."""
    graph = onnx.load(str(graph_file), load_external_data=False).graph
    read = {
        name
        for node in graph.node
        for place, name in enumerate(node.input)
        if place > 0 or node.op_type not in _LOOKUPS
    }
    float32 = others = 0
    for tensor in graph.initializer:
        if tensor.name in read:
            size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            if tensor.data_type == onnx.TensorProto.FLOAT:
                float32 += size
            else:
                others += size
    return Weights(float32, others)


def count_work(graph_file: Path) -> Work:
    """Count the operations of a bundle's graph; its weights are not read.

    Raises:
        BundleError: there is no matrix product with a weight in it.

    """
    graph = onnx.load(str(graph_file), load_external_data=False).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    sizes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }

    def known(name: str) -> int:
        return math.prod(size for size in sizes.get(name, ()) if size)

    per_token = per_text = per_pair = 0
    for node in graph.node:
        output = sizes.get(node.output[0], [])
        # An int8 weight reaches its product widened, and a table of tokens that is the last layer as well turned over.
        if node.op_type in _SAME_WEIGHT and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        elif node.op_type in _PRODUCTS and len(weight := weights.get(node.input[1], ())) == _WEIGHT_RANK:
            # A product of one token of each text is one of texts.
            if len(output) >= _TOKEN_RANK and output[1] != 1:
                per_token += 2 * math.prod(weight)
            else:
                per_text += 2 * math.prod(weight)
        elif node.op_type in _PRODUCTS:
            # Of two values that the graph computes: attention's scores, and their sums over values. Heads x width of a
            # head, the known axes of one of them or of both; one query a text makes it a matter of tokens.
            work = 2 * max(known(node.input[0]), known(node.input[1]))
            if len(output) > _TOKEN_RANK and output[2] == 1:
                per_token += work
            else:
                per_pair += work
        elif node.op_type == "Attention":
            # Both at once.
            per_pair += 2 * 2 * known(node.output[0])
    if not per_token:
        raise BundleError(graph_file.parent, [f"{graph_file.name} has no product of tokens and weights to count"])
    return Work(per_token, per_pair, per_text)
