"""Choose how the input of a layer is rounded: how much of its outliers goes into the weights, and its range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from monograph_export.compression.activation_stats import ActivationStats, Fold
from monograph_export.compression.int8 import WEIGHT_LEVELS, Range, fake_quantize, quantize_rows

# SmoothQuant's strength: 0 leaves the input as it is, 1 gives all of its channels the same largest value.
STRENGTHS = (0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
_SMALLEST = 1e-5


@dataclass(frozen=True)
class Smoothing:
    """How the input of some layers is rounded.

    ``smoothing`` is float32 [in]; ``error`` that of the outputs on texts the choice was not made by, relative to them.
    """

    limits: Range
    smoothing: Tensor
    strength: float
    error: float


def fit(linears: Sequence[nn.Linear], stats: ActivationStats, levels: int = WEIGHT_LEVELS) -> Smoothing:
    """Return the rounding of the input that some layers share.

    The strength is the one with the smallest error of the outputs where one half of the texts sets smoothing and range
    and the other half is rounded with them: measured on the texts that set them, the strongest would win, and it cuts
    off what other texts have. Then both halves set smoothing and range.
    """
    weight = torch.cat([linear.weight.detach().float() for linear in linears])
    folds = [(known, unknown, unknown.rows @ weight.t()) for known, unknown in permutations(stats.folds)]
    errors = {strength: sum(_error(weight, strength, *fold, levels) for fold in folds) for strength in STRENGTHS}
    strength = min(errors, key=errors.__getitem__)
    smoothing, limits = _rounding(weight, strength, stats.all)
    return Smoothing(limits, smoothing, strength, (errors[strength] / 2) ** 0.5)


def _error(weight: Tensor, strength: float, known: Fold, unknown: Fold, expected: Tensor, levels: int) -> float:
    """Return the mean squared error of the outputs for one fold, set by the other, relative to their mean square.

    ``expected``, float32 [n, out], are the outputs without rounding.
    """
    smoothing, limits = _rounding(weight, strength, known)
    quantized, scale = quantize_rows(weight * smoothing, levels)
    outputs = fake_quantize(unknown.rows / smoothing, limits) @ (quantized * scale).t()
    return float(_mean((outputs - expected).square()) / _mean(expected.square()).clamp(min=1e-30))


def _mean(values: Tensor) -> Tensor:
    """Return the mean of float32 values [n, m], row by row: of all at once torch adds up a part a thread."""
    return values.mean(dim=1).mean()


def _rounding(weight: Tensor, strength: float, fold: Fold) -> tuple[Tensor, Range]:
    """Return SmoothQuant's divisors of the input channels, 1 in their geometric mean, and the range of what is left."""
    largest = torch.maximum(-fold.low, fold.high).clamp(min=_SMALLEST)
    divisors = largest**strength / weight.abs().amax(dim=0).clamp(min=_SMALLEST) ** (1 - strength)
    smoothing = divisors / divisors.log().mean().exp() if strength else torch.ones_like(largest)
    # Zero, which padding and dropped channels have, is always one of the levels.
    low, high = (fold.low / smoothing).min(), (fold.high / smoothing).max()
    return smoothing, Range(min(0.0, float(low)), max(0.0, float(high)))
