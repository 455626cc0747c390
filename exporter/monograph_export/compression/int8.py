"""Layers of int8 weights: what they compute in torch is, step by step, what their graph says.

In torch the rounding is imitated in float32; traced, it is QuantizeLinear and DequantizeLinear around the same product,
which both engines run as one int8 product (U8S8: unsigned activations, signed weights).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Signed weights: -127..127, or half of that where the CPU adds two products in 16 bits (AVX2 without VNNI).
WEIGHT_LEVELS = 127
REDUCED_WEIGHT_LEVELS = 63
_SMALLEST_SCALE = 1e-12
# Rows of a table that are quantized at once, so that a table of gigabytes needs no second copy.
_CHUNK = 65_536


@dataclass(frozen=True)
class Range:
    """Static range of an activation: the float values that 0 and 255 stand for.

    With a ``floor`` it is that of each token's values divided by their maximum, or by the floor where that is larger.
    """

    low: float
    high: float
    floor: float | None = None

    @property
    def scale(self) -> float:
        """Return the size of a step."""
        return max((self.high - self.low) / 255, _SMALLEST_SCALE)

    @property
    def zero_point(self) -> int:
        """Return the level, 0..255, that stands for 0.0, which is always exact."""
        return min(max(round(-self.low / self.scale), 0), 255)


def quantize_rows(weight: Tensor, levels: int = WEIGHT_LEVELS) -> tuple[Tensor, Tensor]:
    """Return int8 [n, m] and the scale of each row, float32 [n, 1], for float32 [n, m]."""
    scale = row_scales(weight, levels)
    return (weight / scale).round().clamp(-levels, levels).to(torch.int8), scale


def row_scales(weight: Tensor, levels: int) -> Tensor:
    """Return the step of each row, [n, 1], for which its largest value is the last level."""
    return (weight.abs().amax(dim=1, keepdim=True) / levels).clamp(min=_SMALLEST_SCALE)


def fake_quantize(values: Tensor, limits: Range) -> Tensor:
    """Round float32 values, [..., channels], to the 256 levels of a range, still as float32."""
    if limits.floor is None:
        return _round(values, limits)
    divisors = token_divisors(values, limits.floor)
    return _round(values / divisors, limits) * divisors


def token_divisors(values: Tensor, floor: float) -> Tensor:
    """Return what each token's values are divided by before they are rounded, [..., 1] of [..., channels]."""
    return values.amax(dim=-1, keepdim=True).clamp(min=floor)


def _round(values: Tensor, limits: Range) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(values, limits.scale, limits.zero_point, 0, 255)


class Int8Table(nn.Module):
    """An embedding table of int8 rows with a scale each, gathered with standard operators: a quarter of the size."""

    weight: Tensor
    scale: Tensor

    def __init__(self, table: nn.Embedding | nn.EmbeddingBag) -> None:
        super().__init__()
        chunks = [quantize_rows(rows.float()) for rows in torch.split(table.weight.detach(), _CHUNK)]
        self.register_buffer("weight", torch.cat([weight for weight, _ in chunks]))
        self.register_buffer("scale", torch.cat([scale for _, scale in chunks]))
        self._dtype = table.weight.dtype

    @property
    def num_embeddings(self) -> int:
        """Number of rows, by the name that nn.Embedding has for it."""
        return self.weight.shape[0]

    def forward(self, ids: Tensor) -> Tensor:
        """Map int64 [batch, sequence] to [batch, sequence, hidden] in the type that the table had."""
        rows = functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.scale)
        return rows.to(self._dtype)


class Int8Bag(nn.Module):
    """The mean of rows of an int8 table for each text: what an EmbeddingBag is to its weights."""

    def __init__(self, table: Int8Table) -> None:
        super().__init__()
        self.table = table

    @property
    def num_embeddings(self) -> int:
        """Number of rows, by the name that nn.EmbeddingBag has for it."""
        return self.table.num_embeddings

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Map the ids of all texts, int64 [total], and where each begins, int64 [batch], to [batch, hidden]."""
        positions = torch.arange(len(ids), device=ids.device)
        return functional.embedding_bag(positions, self.table(ids), offsets, mode="mean")


class Int8Linear(nn.Module):
    """A linear layer of int8 weights, a scale for each output.

    With a ``limits`` its input is rounded to 256 static levels and the product is one of int8; without, the weights are
    widened and the product is one of float32. ``smoothing``, float32 [in], divides the input and multiplies the
    weights, which moves outliers of a few input channels into the weights (SmoothQuant, arXiv:2211.10438). ``rounded``
    are the int8 weights, [out, in], and their scales, [out, 1], None for those with the smallest error of each weight.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    smoothing: Tensor | None
    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(
        self,
        linear: nn.Linear,
        limits: Range | None,
        smoothing: Tensor | None,
        levels: int = WEIGHT_LEVELS,
        rounded: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if rounded is None:
            weight = linear.weight.detach().float()
            rounded = quantize_rows(weight if smoothing is None else weight * smoothing, levels)
        quantized, scale = rounded
        # Input channels first, as MatMul takes it.
        self.register_buffer("weight", quantized.t().contiguous())
        self.register_buffer("weight_scale", scale.squeeze(1))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float().clone())
        self.register_buffer("smoothing", None if smoothing is None else 1 / smoothing)
        self.limits = limits
        if limits is not None:
            self.register_buffer("input_scale", torch.tensor(limits.scale))
            self.register_buffer("input_zero_point", torch.tensor(limits.zero_point, dtype=torch.uint8))

    @property
    def out_features(self) -> int:
        """Number of outputs, by the name that nn.Linear has for it."""
        return self.weight.shape[1]

    def part(self, outputs: slice) -> Int8Linear:
        """Return a layer of some of the outputs."""
        part = copy.copy(self)
        # Its own dictionary of buffers: a shallow copy shares it.
        part._buffers = dict(self._buffers)
        part.weight = self.weight[:, outputs].contiguous()
        part.weight_scale = self.weight_scale[outputs].clone()
        part.bias = None if self.bias is None else self.bias[outputs].clone()
        return part

    def forward(self, values: Tensor) -> Tensor:
        """Map float32 [..., in] to float32 [..., out]."""
        if self.smoothing is not None:
            values = values * self.smoothing
        if self.limits is None or self.limits.floor is None:
            product = self._product(values)
        else:
            divisors = token_divisors(values, self.limits.floor)
            product = self._product(values / divisors) * divisors
        return product if self.bias is None else product + self.bias

    def _product(self, values: Tensor) -> Tensor:
        """Round values, already divided, and multiply them with the weights."""
        traced = torch.onnx.is_in_onnx_export()
        if self.limits is not None:
            values = self._traced_rounding(values) if traced else _round(values, self.limits)
        # One pass over the weights less than widening and scaling them at every call, as the graph does once.
        return values @ self._traced_weight() if traced else (values @ self.weight.float()) * self.weight_scale

    def _traced_rounding(self, values: Tensor) -> Tensor:
        constants = (self.input_scale, self.input_zero_point)
        levels = torch.onnx.ops.symbolic("QuantizeLinear", (values, *constants), dtype=torch.uint8, shape=values.shape)
        return torch.onnx.ops.symbolic(
            "DequantizeLinear", (levels, *constants), dtype=torch.float32, shape=values.shape
        )

    def _traced_weight(self) -> Tensor:
        return torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.weight, self.weight_scale),
            {"axis": 1},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
