"""Turn the linear layers of a transformer into int8 ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn

from monograph.errors import ExportError
from monograph.inputs import InputT
from monograph.progress import SILENT, Progress
from monograph_export.arithmetic import one_thread
from monograph_export.compression.activation_stats import ActivationStats, collect_activation_stats, linear_layers
from monograph_export.compression.gptq import round_weight
from monograph_export.compression.int8 import Int8Linear, fake_quantize
from monograph_export.compression.smoothquant import fit
from monograph_export.tasks.base import ExportTask

# Texts or pairs that the cost of each layer is measured with, drawn evenly.
_COST_INPUTS = 48


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that share an input, by their names: the float32 ones, and the int8 ones in their place."""

    originals: Mapping[str, nn.Linear]
    rounded: Mapping[str, Int8Linear]


class LayerQuantizer(Generic[InputT]):
    """The linear layers of a model's transformer, which it replaces in the model.

    ``inputs`` are the texts or pairs to calibrate with. The steps are reported to ``progress``.

    Raises:
        ExportError: there are none.

    """

    def __init__(
        self,
        model: BaseModel,
        inputs: Sequence[InputT],
        levels: int,
        task: ExportTask[InputT],
        progress: Progress = SILENT,
    ) -> None:
        self._model = model
        self._levels = levels
        self._task = task
        self._progress = progress
        self._linears = linear_layers(model)
        with progress.step("Recording activation statistics", len(inputs), task.task.inputs) as step:
            self._statistics = collect_activation_stats(model, list(inputs), task.feature, step.advance)
        if not self._statistics:
            raise ExportError("the transformer has no linear layer with an int8 form: choose --precision fp32")
        self.groups: list[Group] = []

    def quantize(self, *, token_ranges: bool = False) -> None:
        """Make all layers int8.

        With ``token_ranges``, inputs whose tokens differ in size are rounded relative to each token's maximum: nearer
        to the original, and slower by one more pass over these inputs.
        """
        self.groups = self._fit(token_ranges=token_ranges)
        self._install(self.groups)

    @property
    def token_ranges(self) -> tuple[str, ...]:
        """The names of the layers whose input is rounded relative to each token's maximum."""
        layers = {name: layer for group in self.groups for name, layer in group.rounded.items()}
        return tuple(
            name for name, layer in layers.items() if layer.limits is not None and layer.limits.floor is not None
        )

    def _fit(self, *, token_ranges: bool) -> list[Group]:
        groups, layers = list[Group](), sum(len(stats.names) for stats in self._statistics)
        # Not in inference mode: the model is traced with the buffers that are made here.
        with torch.no_grad(), one_thread(), self._progress.step("Calibrating layers", layers, "layers") as step:
            for stats in self._statistics:
                originals = {name: self._linears[name] for name in stats.names}
                rounded = int8_layers(originals, stats, self._levels, token_ranges=token_ranges)
                groups.append(Group(originals, rounded))
                step.advance(len(originals))
        return groups

    def costs(self, inputs: Sequence[InputT], reference: NDArray[Any]) -> dict[int, float]:
        """Return what each group costs by itself, as the task measures it, by its position, the costliest first.

        ``reference``, float32 [n, width], is what the original gives for the inputs, of which some are taken.
        """
        stride = max(1, len(inputs) // _COST_INPUTS)
        inputs, reference = inputs[::stride], reference[::stride]
        costs, total = {}, len(self.groups) * len(inputs)
        with self._progress.step("Measuring each layer's loss", total, self._task.task.inputs) as step:
            for position, group in enumerate(self.groups):
                self._install([group])
                outputs = self._task.outputs_to_compare(self._model, inputs, step)
                costs[position] = self._task.cost(reference, outputs)
        self._install(self.groups)
        return dict(sorted(costs.items(), key=lambda item: -item[1]))

    def _install(self, groups: Collection[Group]) -> None:
        encoder = self._model[0].auto_model
        for group in self.groups:
            for name, layer in (group.rounded if group in groups else group.originals).items():
                encoder.set_submodule(name, layer)


def int8_layers(
    linears: Mapping[str, nn.Linear], stats: ActivationStats, levels: int, *, token_ranges: bool = False
) -> dict[str, Int8Linear]:
    """Return layers of int8 weights and inputs in place of those that share an input.

    The mean of what rounding adds to the outputs is taken from the bias, where there is one.
    """
    smoothing, rows = fit(list(linears.values()), stats, levels, token_ranges=token_ranges), stats.rows
    inputs = fake_quantize(rows / smoothing.smoothing, smoothing.limits)
    parts = _round_weights(linears, inputs, smoothing.smoothing, levels)
    layers = {}
    for (name, linear), part in zip(linears.items(), parts, strict=True):
        layer = Int8Linear(linear, smoothing.limits, smoothing.smoothing, levels, part)
        if layer.bias is not None:
            layer.bias -= (layer(rows) - linear(rows)).mean(dim=0)
        layers[name] = layer
    return layers


def _round_weights(
    linears: Mapping[str, nn.Linear], inputs: Tensor, smoothing: Tensor, levels: int
) -> list[tuple[Tensor, Tensor]]:
    """Return the int8 weights and scales of each layer; they multiply the same inputs, and so are rounded at once."""
    weight = torch.cat([linear.weight.detach() for linear in linears.values()]).float()
    rounded, scale = round_weight(weight * smoothing, inputs, levels)
    sizes = [linear.out_features for linear in linears.values()]
    return list(zip(torch.split(rounded, sizes), torch.split(scale, sizes), strict=True))
