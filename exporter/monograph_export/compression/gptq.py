"""Round the weights of a layer so that the errors of one input channel make up for those of others.

GPTQ (arXiv:2210.17323): channels are rounded one after the other, and what rounding one adds to the outputs is taken
from the channels that are still to be rounded, as far as the inputs of the calibration texts are correlated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monograph_export.compression.int8 import WEIGHT_LEVELS, quantize_rows, row_scales

# Relative to the mean variance of the channels. Inputs in other languages than the calibration texts are correlated
# otherwise: with less, their errors grow.
_DAMPING = 0.5
# Channels whose errors reach the later ones in one product.
_BLOCK = 128


def round_weight(weight: Tensor, inputs: Tensor, levels: int = WEIGHT_LEVELS) -> tuple[Tensor, Tensor]:
    """Return int8 [out, in] and the scale of each row, float32 [out, 1], for float32 [out, in].

    ``inputs``, float32 [n, in], are what the weights will be multiplied with.
    """
    covariance = torch.cov(inputs.t())
    damping = _DAMPING * float(covariance.diagonal().mean())
    if not damping:
        return quantize_rows(weight, levels)
    covariance.diagonal().add_(damping)
    # Those with the largest inputs first, while there are others to make up for them.
    order = covariance.diagonal().argsort(descending=True, stable=True)
    spread = _inverse_root(covariance[order][:, order])
    scale = row_scales(weight, levels)
    rest = weight[:, order] / scale
    for start in range(0, rest.shape[1], _BLOCK):
        block = slice(start, min(start + _BLOCK, rest.shape[1]))
        errors = _round_block(rest[:, block], spread[block, block], levels)
        rest[:, block.stop :] -= errors @ spread[block, block.stop :]
    rounded = torch.empty_like(rest)
    rounded[:, order] = rest
    return rounded.to(torch.int8), scale


def _inverse_root(covariance: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a covariance.

    Its row i is the weight that each later channel has in what makes up for an error of channel i.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return root


def _round_block(weight: Tensor, spread: Tensor, levels: int) -> Tensor:
    """Round some channels in place, in steps of their scales, and return what remains of each, float32 [out, block]."""
    # Channels as rows, which are contiguous.
    columns, errors = weight.t().contiguous(), torch.empty_like(weight.t())
    for channel, column in enumerate(columns):
        rounded = column.round().clamp(-levels, levels)
        errors[channel] = (column - rounded) / spread[channel, channel]
        columns[channel + 1 :] -= spread[channel, channel + 1 :, None] * errors[channel]
        columns[channel] = rounded
    weight.copy_(columns.t())
    return errors.t()
