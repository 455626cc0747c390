"""Turn the linear layers of a transformer into int8 ones, and leave the input of the costliest in float32."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn

from monograph.errors import ExportError
from monograph.inputs import InputT
from monograph.progress import SILENT, Progress, Step
from monograph.quality import Agreement
from monograph_export.arithmetic import one_thread
from monograph_export.compression.activation_stats import ActivationStats, collect_activation_stats, linear_layers
from monograph_export.compression.gptq import round_weight
from monograph_export.compression.int8 import Int8Linear, fake_quantize
from monograph_export.compression.options import Limits
from monograph_export.compression.smoothquant import fit
from monograph_export.tasks.base import ExportTask

logger = logging.getLogger(__name__)
# Of the groups of layers, the largest share with a float32 input: with more, int8 is no faster.
FLOAT_SHARE = 1 / 3
# How much of the loss that the limits allow may be used up on what calibrates; other texts lose more.
_USED_SHARE = 0.8
# Texts or pairs that the cost of each layer is measured with, drawn evenly.
_COST_INPUTS = 48


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that share an input, by their names: the float32 ones, and those in their place.

    All of ``rounded`` and ``weights_only`` have int8 weights; the input of the latter stays float32, which few groups
    need.
    """

    originals: Mapping[str, nn.Linear]
    stats: ActivationStats
    levels: int
    rounded: Mapping[str, Int8Linear]

    @functools.cached_property
    def weights_only(self) -> Mapping[str, Int8Linear]:
        """Those for a float32 input, by name."""
        with torch.no_grad(), one_thread():
            return weights_only_layers(self.originals, self.stats, self.levels)


class LayerQuantizer(Generic[InputT]):
    """The linear layers of a model's transformer, which it replaces in the model.

    ``inputs`` are the texts or pairs to calibrate with; the result keeps to a part of the ``limits`` on them. The steps
    are reported to ``progress``.

    Raises:
        ExportError: there are none.

    """

    def __init__(
        self,
        model: BaseModel,
        inputs: Sequence[InputT],
        levels: int,
        task: ExportTask[InputT],
        limits: Limits,
        progress: Progress = SILENT,
    ) -> None:
        self._model = model
        self._levels = levels
        self._inputs = list(inputs)
        self._task = task
        self._limits = limits.tightened(_USED_SHARE)
        self._progress = progress
        self._noun = task.task.inputs
        with progress.step("Computing the original's outputs to calibrate with", len(inputs), self._noun) as step:
            self._reference = self._outputs(self._inputs, step)
        with progress.step("Recording activation statistics", len(inputs), self._noun) as step:
            statistics = collect_activation_stats(model, self._inputs, task.feature, step.advance)
        self.groups = self._fit(statistics)
        if not self.groups:
            raise ExportError("the transformer has no linear layer with an int8 form: choose --precision fp32")
        self.float_inputs: list[Group] = []

    def _fit(self, statistics: Sequence[ActivationStats]) -> list[Group]:
        linears, groups = linear_layers(self._model), list[Group]()
        layers = sum(len(stats.names) for stats in statistics)
        # Not in inference mode: the model is traced with the buffers that are made here.
        with torch.no_grad(), one_thread(), self._progress.step("Calibrating layers", layers, "layers") as step:
            for stats in statistics:
                originals = {name: linears[name] for name in stats.names}
                rounded = int8_layers(originals, stats, self._levels)
                groups.append(Group(originals, stats, self._levels, rounded))
                step.advance(len(originals))
        return groups

    def quantize(self) -> Agreement:
        """Make all layers int8, and the inputs of as many of the costliest float32 as the limits require.

        Returns the agreement over the calibration inputs.
        """
        agreement = self._try(())
        if not self._limits.violations(agreement):
            return agreement
        ranked = list(self.costs(self._inputs, self._reference))
        low, high = 0, int(len(ranked) * FLOAT_SHARE)
        # The smallest number that suffices, by bisection: one more float32 input hardly ever costs.
        while low < high:
            middle = (low + high) // 2
            agreement = self._try([self.groups[i] for i in ranked[:middle]])
            low, high = (middle + 1, high) if self._limits.violations(agreement) else (low, middle)
        return self._try([self.groups[i] for i in ranked[:low]])

    def costs(self, inputs: Sequence[InputT], reference: NDArray[np.float32]) -> dict[int, float]:
        """Return what each group costs by itself, as the task measures it, by its position, the costliest first.

        ``reference``, float32 [n, width], is what the original gives for the inputs, of which some are taken.
        """
        stride = max(1, len(inputs) // _COST_INPUTS)
        inputs, reference = inputs[::stride], reference[::stride]
        costs = {}
        with self._progress.step("Measuring each layer's loss", len(self.groups) * len(inputs), self._noun) as step:
            for position, group in enumerate(self.groups):
                self._install([group], ())
                costs[position] = self._task.cost(reference, self._outputs(inputs, step))
        self._install(self.groups, self.float_inputs)
        return dict(sorted(costs.items(), key=lambda item: -item[1]))

    def _outputs(self, inputs: Sequence[InputT], step: Step) -> NDArray[np.float32]:
        return self._task.outputs_to_compare(self._model, inputs, step)

    def _try(self, float_inputs: Sequence[Group]) -> Agreement:
        self.float_inputs = list(float_inputs)
        name = f"Measuring int8 with {len(float_inputs)} of {len(self.groups)} inputs in float32"
        with self._progress.step(name, len(self._inputs), self._noun) as step:
            self._install(self.groups, float_inputs)
            agreement = self._task.agreement(self._reference, self._outputs(self._inputs, step))
        figures = ", ".join(f"{name} {value:.4g}" for name, value in vars(agreement).items())
        logger.info("int8 with %d of %d inputs in float32: %s", len(float_inputs), len(self.groups), figures)
        return agreement

    def _install(self, groups: Collection[Group], float_inputs: Collection[Group]) -> None:
        encoder = self._model[0].auto_model
        for group in self.groups:
            for name, linear in group.originals.items():
                layer: nn.Module = linear
                if group in groups:
                    layer = (group.weights_only if group in float_inputs else group.rounded)[name]
                encoder.set_submodule(name, layer)


def int8_layers(linears: Mapping[str, nn.Linear], stats: ActivationStats, levels: int) -> dict[str, Int8Linear]:
    """Return layers of int8 weights and inputs in place of those that share an input.

    The mean of what rounding adds to the outputs is taken from the bias, where there is one.
    """
    smoothing, rows = fit(list(linears.values()), stats, levels), stats.rows
    inputs = fake_quantize(rows / smoothing.smoothing, smoothing.limits)
    parts = _round_weights(linears, inputs, smoothing.smoothing, levels)
    layers = {}
    for (name, linear), part in zip(linears.items(), parts, strict=True):
        layer = Int8Linear(linear, smoothing.limits, smoothing.smoothing, levels, part)
        if layer.bias is not None:
            layer.bias -= (layer(rows) - linear(rows)).mean(dim=0)
        layers[name] = layer
    return layers


def weights_only_layers(linears: Mapping[str, nn.Linear], stats: ActivationStats, levels: int) -> dict[str, Int8Linear]:
    """Return layers of int8 weights and float32 inputs in place of those that share an input."""
    parts = _round_weights(linears, stats.rows, None, levels)
    layers = zip(linears.items(), parts, strict=True)
    return {name: Int8Linear(linear, None, None, levels, part) for (name, linear), part in layers}


def _round_weights(
    linears: Mapping[str, nn.Linear], inputs: Tensor, smoothing: Tensor | None, levels: int
) -> list[tuple[Tensor, Tensor]]:
    """Return the int8 weights and scales of each layer; they multiply the same inputs, and so are rounded at once."""
    weight = torch.cat([linear.weight.detach() for linear in linears.values()]).float()
    rounded, scale = round_weight(weight if smoothing is None else weight * smoothing, inputs, levels)
    sizes = [linear.out_features for linear in linears.values()]
    return list(zip(torch.split(rounded, sizes), torch.split(scale, sizes), strict=True))
