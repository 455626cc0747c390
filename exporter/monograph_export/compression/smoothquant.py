"""Choose how the input of a layer is rounded: how much of its outliers goes into the weights, and its range.

SmoothQuant (arXiv:2211.10438) divides each input channel by a factor and multiplies its weights by it. Here the factors
are not a power of the channels' maxima, but minimize the noise that rounding both sides adds to the outputs, which
follows from their ranges. A factor may be negative: it flips the sign of a channel whose values go further below zero
than above, so that one range fits channels of either skew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.optim import Adam
from torch.optim.lr_scheduler import LinearLR

from monograph_export.compression.activation_stats import ActivationStats
from monograph_export.compression.int8 import WEIGHT_LEVELS, Range

# A maximum has a gradient at one channel only. The norm of this order is at most 1.3 times the largest of 3,072 values.
_ORDER = 32
# Steps of Adam (arXiv:1412.6980), and how far the first moves the logarithm of a factor.
_STEPS = 200
_STEP_SIZE = 0.05
_BETAS = (0.9, 0.99)
# GPTQ leaves about so much of the noise that independently rounded weights have.
_WEIGHT_NOISE = 0.5
# Where the search begins: SmoothQuant's factors at this strength.
_STRENGTH = 0.85
_SMALLEST = 1e-6
# Of an output whose weights are all zero; small enough for powers of small factors, large enough to divide by.
_SMALLEST_SUM = 1e-200


# A range is relative to each token's maximum where that leaves at most this share of the input's rounding noise. For
# MiniLM these are the inputs of the second feed-forward layers (0.20 to 0.49); for all others it would leave 0.59 or
# more.
PER_TOKEN_SHARE = 0.5
# Floors that are tried, from the range's upper end down to a hundredth of it.
_FLOORS = 100


@dataclass(frozen=True)
class Smoothing:
    """How the input of some layers is rounded: divided by ``smoothing``, float32 [in], then within ``limits``."""

    limits: Range
    smoothing: Tensor


def fit(
    linears: Sequence[nn.Linear], stats: ActivationStats, levels: int = WEIGHT_LEVELS, *, token_ranges: bool = False
) -> Smoothing:
    """Return the rounding of the input that some layers share.

    With ``token_ranges`` its range is relative to each token's maximum where that leaves much less noise.
    """
    weight = torch.cat([linear.weight.detach() for linear in linears])
    is_negative = -stats.low > stats.high
    # Each channel's extremes once its sign is flipped, so that the upper is the further one.
    below = torch.where(is_negative, stats.high, -stats.low).double().clamp(min=_SMALLEST)
    above = torch.where(is_negative, -stats.low, stats.high).double().clamp(min=_SMALLEST)
    rows = torch.where(is_negative, -stats.rows, stats.rows).double()
    noise = RoundingNoise(weight.double().abs(), below, above, rows.var(dim=0), levels)

    def minimized(input_share: float) -> tuple[Range, Tensor]:
        factors = noise.minimize(input_share)
        return Range(-float((below / factors).amax()), float((above / factors).amax())), factors

    limits, factors = minimized(1)
    share = per_token_range(limits, (rows / factors).amax(dim=1))[1] if token_ranges else 1
    if share <= PER_TOKEN_SHARE:
        # With less noise from the input, more of its outliers stay in it.
        limits, factors = minimized(share)
        limits, _ = per_token_range(limits, (rows / factors).amax(dim=1))
    return Smoothing(limits, torch.where(is_negative, -factors, factors).float())


def per_token_range(limits: Range, maxima: Tensor) -> tuple[Range, float]:
    """Return the range relative to each token's maximum, and the share of the rounding noise that it leaves.

    ``maxima``, float64 [n], are those of some tokens. A token with a small one is rounded in smaller steps. The floor
    is that with the least noise: a lower one needs a lower end that is further from zero, relative to the maximum, to
    have the lower end of ``limits`` in every token's reach.
    """
    floors = limits.high * torch.logspace(0, -2, _FLOORS, dtype=torch.float64)
    steps = torch.maximum(maxima, floors[:, None]) * (1 - limits.low / floors[:, None])
    noise = steps.square().mean(dim=1) / (limits.high - limits.low) ** 2
    best = int(noise.argmin())
    floor = float(floors[best])
    return Range(limits.low / floor, 1, floor), float(noise[best])


class RoundingNoise:
    """The noise in the outputs of a product of a rounded input and rounded weights, as a function of the smoothing.

    A value that is rounded to multiples of a step is off by a twelfth of the step's square, on average of squares. For
    the input there is one step, for the weights one for each output. Errors are assumed to be independent, and to leave
    the mean of the outputs as it is, because the bias is corrected.

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

    def minimize(self, input_share: float = 1) -> Tensor:
        """Return the divisors of the input channels with the smallest noise, 1 in their geometric mean.

        ``input_share`` of the noise that a static range of the input would add is left.
        """
        logs = (self._start - self._start.mean()).requires_grad_()
        optimizer = Adam([logs], lr=_STEP_SIZE, betas=_BETAS)
        schedule = LinearLR(optimizer, start_factor=1, end_factor=1 / _STEPS, total_iters=_STEPS - 1)
        with torch.enable_grad():
            for _ in range(_STEPS):
                optimizer.zero_grad()
                self.logarithm(logs, input_share).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        logs = logs.detach()
        return (logs - logs.mean()).exp()

    def logarithm(self, logs: Tensor, input_share: float = 1) -> Tensor:
        """Return the logarithm of the noise for the logarithms of the factors, float64 [in]."""
        factors = logs.exp()
        step = (_maximum(self._below / factors) + _maximum(self._above / factors)) / 255
        of_input = (self._energy * factors.square()).sum() * step.square() / 12 * input_share
        largest = factors.amax().detach()
        sums = (self._powers @ (factors / largest) ** _ORDER).clamp(min=_SMALLEST_SUM)
        steps = self._largest * largest * sums ** (1 / _ORDER) / self._levels
        of_weights = steps.square().sum() / 12 * _WEIGHT_NOISE * (self._variance / factors.square()).sum()
        return (of_input + of_weights + _SMALLEST**4).log()


def _maximum(values: Tensor) -> Tensor:
    """Return the norm of positive values that stands for their maximum, without overflow."""
    largest = values.amax().detach()
    norm: Tensor = vector_norm(values / largest, _ORDER)
    return largest * norm
