"""Choose how the input of a layer is rounded: how much of its outliers goes into the weights, and its range.

SmoothQuant (arXiv:2211.10438) divides each input channel by a factor and multiplies its weights by it. Here the factors
are not a power of the channels' maxima, but minimize the noise that rounding both sides adds to the outputs, which
follows from their ranges. A factor may be negative: it turns a channel round whose values go further below zero than
above, so that one range fits channels of either skew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monograph_export.compression.activation_stats import ActivationStats
from monograph_export.compression.int8 import WEIGHT_LEVELS, Range

# A maximum has a gradient at one channel only. The norm of this order is at most 1.3 times the largest of 3,072 values.
_ORDER = 32
# Steps of Adam (arXiv:1412.6980), and how far the first moves the logarithm of a factor.
_STEPS = 200
_STEP_SIZE = 0.05
_DECAY, _SQUARE_DECAY = 0.9, 0.99
# GPTQ leaves about so much of the noise that independently rounded weights have.
_WEIGHT_NOISE = 0.5
# Where the search begins: SmoothQuant's factors at this strength.
_STRENGTH = 0.85
_SMALLEST = 1e-6
# Of an output whose weights are all zero; small enough for powers of small factors, large enough to divide by.
_SMALLEST_SUM = 1e-200


@dataclass(frozen=True)
class Smoothing:
    """How the input of some layers is rounded: divided by ``smoothing``, float32 [in], then within ``limits``."""

    limits: Range
    smoothing: Tensor


def fit(linears: Sequence[nn.Linear], stats: ActivationStats, levels: int = WEIGHT_LEVELS) -> Smoothing:
    """Return the rounding of the input that some layers share."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    is_negative = -stats.low > stats.high
    # Each channel's extremes once it is turned round, so that the upper is the further one.
    below = torch.where(is_negative, stats.high, -stats.low).double().clamp(min=_SMALLEST)
    above = torch.where(is_negative, -stats.low, stats.high).double().clamp(min=_SMALLEST)
    noise = RoundingNoise(weight.double().abs(), below, above, stats.rows.double().var(dim=0), levels)
    factors = noise.minimize()
    limits = Range(-float((below / factors).amax()), float((above / factors).amax()))
    return Smoothing(limits, torch.where(is_negative, -factors, factors).float())


class RoundingNoise:
    """The noise in the outputs of a product of a rounded input and rounded weights, as a function of the smoothing.

    A value that is rounded to multiples of a step is off by a twelfth of the step's square, on average of squares. For
    the input there is one step, for the weights one for each output. Errors are taken for independent, and the mean of
    the outputs for kept, which a correction of the bias sees to.

    ``weight``, float64 [out, in], are the weights' absolute values; ``below`` and ``above``, [in], how far each channel
    goes to either side of zero; ``variance``, [in], that of each channel.
    """

    def __init__(self, weight: Tensor, below: Tensor, above: Tensor, variance: Tensor, levels: int) -> None:
        self._below, self._above, self._variance, self._levels = below, above, variance, levels
        self._energy = weight.square().sum(dim=0)
        self._largest = weight.amax(dim=1).clamp(min=_SMALLEST)
        self._powers = (weight / self._largest[:, None]) ** _ORDER
        column = weight.amax(dim=0).clamp(min=_SMALLEST)
        self._start = torch.maximum(below, above).log() * _STRENGTH - column.log() * (1 - _STRENGTH)

    def minimize(self) -> Tensor:
        """Return the divisors of the input channels with the smallest noise, 1 in their geometric mean."""
        logs = self._start - self._start.mean()
        mean, square = torch.zeros_like(logs), torch.zeros_like(logs)
        for step in range(1, _STEPS + 1):
            gradient = self.gradient(logs)[1]
            mean = _DECAY * mean + (1 - _DECAY) * gradient
            square = _SQUARE_DECAY * square + (1 - _SQUARE_DECAY) * gradient.square()
            size = _STEP_SIZE * (1 - (step - 1) / _STEPS)
            unbiased = square / (1 - _SQUARE_DECAY**step)
            logs = logs - size * mean / (1 - _DECAY**step) / (unbiased.sqrt() + 1e-8)
        return (logs - logs.mean()).exp()

    def gradient(self, logs: Tensor) -> tuple[float, Tensor]:
        """Return the logarithm of the noise for the logarithms of the factors, and its gradient, float64 [in]."""
        factors = logs.exp()
        low, low_shares = _norm(self._below / factors)
        high, high_shares = _norm(self._above / factors)
        step = (low + high) / 255
        of_input = self._energy * factors.square() * step**2 / 12
        step_slope = -(low * low_shares + high * high_shares) / (low + high)

        largest = factors.amax()
        powers = (factors / largest) ** _ORDER
        sums = (self._powers @ powers).clamp(min=_SMALLEST_SUM)
        steps = (self._largest * largest * sums ** (1 / _ORDER) / self._levels).square() / 12 * _WEIGHT_NOISE
        spread = self._variance / factors.square()
        of_weights = steps.sum() * spread
        steps_slope = (steps / sums) @ self._powers * powers * spread.sum()

        total = of_input.sum() + of_weights.sum() + _SMALLEST**4
        slope = of_input + of_input.sum() * step_slope + steps_slope - of_weights
        return float(total.log()), 2 * slope / total


def _norm(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the norm of positive values that stands for their maximum, and each value's share of its gradient."""
    largest = values.amax()
    powers = (values / largest) ** _ORDER
    total = powers.sum()
    return largest * total ** (1 / _ORDER), powers / total
