"""The inputs of each linear layer of a model while it computes the calibration texts, or pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from monograph.inputs import Input, InputT

# Tokens sampled, drawn evenly from all texts.
SAMPLE_ROWS = 2048


@dataclass(frozen=True)
class ActivationStats:
    """The input that some linear layers share (query, key and value do), by the layers' names in the transformer.

    ``low`` and ``high``, float32 [in], are each channel's extremes over all tokens; ``rows``, float32 [n, in], the
    inputs of some tokens.
    """

    names: tuple[str, ...]
    low: Tensor
    high: Tensor
    rows: Tensor


def collect_activation_stats(
    model: BaseModel,
    inputs: Sequence[InputT],
    feature: str,
    on_inputs: Callable[[int], object] = lambda _: None,
) -> list[ActivationStats]:
    """Compute each text or pair alone, so unpadded, and return the inputs of the transformer's linear layers.

    Layers that do not change the output (a pooler that only classification uses) are left out, and so is a head.
    ``feature`` is the output's name among the features of the model. ``on_inputs`` is called with the number of further
    inputs that are done.
    """
    linears = linear_layers(model)
    groups = {group[0]: group for group in _groups(model, linears, inputs[0], feature)}
    per_input = -(-SAMPLE_ROWS // len(inputs))
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, list[ActivationStats]] = {name: [] for name in groups}
    with torch.inference_mode(), _inputs_of({name: linears[name] for name in groups}) as seen:
        for each in inputs:
            seen.clear()
            model(model.preprocess([each]))
            for name, values in seen.items():
                tokens = torch.cat([value.reshape(-1, value.shape[-1]) for value in values])
                rows = tokens[torch.randperm(len(tokens), generator=generator)[:per_input]]
                parts[name].append(ActivationStats(groups[name], tokens.amin(dim=0), tokens.amax(dim=0), rows))
            on_inputs(1)
    return [_joined(stats) for stats in parts.values()]


def linear_layers(model: BaseModel) -> dict[str, nn.Linear]:
    """Return the linear layers of a model's transformer by their names in it."""
    return {name: module for name, module in model[0].auto_model.named_modules() if isinstance(module, nn.Linear)}


def layers_of_encoder(model: BaseModel, sample: Input, feature: str) -> dict[str, nn.Linear]:
    """Return the linear layers of the transformer that the output depends on, without a head, by name."""
    linears = linear_layers(model)
    return {name: linears[name] for group in _groups(model, linears, sample, feature) for name in group}


def _groups(model: BaseModel, linears: Mapping[str, nn.Linear], sample: Input, feature: str) -> list[tuple[str, ...]]:
    """Return the names of the layers that the output depends on, grouped by their input, without a head."""
    with torch.inference_mode(), _inputs_of(linears) as inputs:
        model(model.preprocess([sample]))
        groups: dict[tuple[int, ...], list[str]] = {}
        rows: dict[str, int] = {}
        for name, values in inputs.items():
            groups.setdefault(tuple(map(id, values)), []).append(name)
            rows[name] = sum(value.numel() // value.shape[-1] for value in values)
    all_rows = max(rows.values(), default=0)
    return [
        tuple(names)
        for names in groups.values()
        if not _is_of_head(rows[names[0]], all_rows)
        and any(_matters(model, linears[name], sample, feature) for name in names)
    ]


def _is_of_head(rows: int, all_rows: int) -> bool:
    """Tell whether a layer comes after all tokens became one row, as a classifier's pooler and its last layers do.

    It stays float32: for one row a pair it costs no time, and nothing comes after it that would even its rounding out.
    As int8 it moved the scores of seven tiny classifiers of as many architectures further, by 3 to 70 % on average.
    """
    return rows == 1 < all_rows


def _matters(model: BaseModel, linear: nn.Linear, sample: Input, feature: str) -> bool:
    """Tell whether a layer's output reaches the model's: not-a-number would get through everything."""
    handle = linear.register_forward_hook(lambda _module, _inputs, output: output * float("nan"))
    try:
        with torch.inference_mode():
            return not bool(model(model.preprocess([sample]))[feature].isfinite().all())
    finally:
        handle.remove()


def _joined(parts: Sequence[ActivationStats]) -> ActivationStats:
    return ActivationStats(
        parts[0].names,
        torch.stack([part.low for part in parts]).amin(dim=0),
        torch.stack([part.high for part in parts]).amax(dim=0),
        torch.cat([part.rows for part in parts]),
    )


@contextmanager
def _inputs_of(linears: Mapping[str, nn.Linear]) -> Iterator[dict[str, list[Tensor]]]:
    """Give a dictionary of the inputs of each layer, by name: one per call, for a layer may be called several times."""
    inputs: dict[str, list[Tensor]] = {}

    def record(name: str) -> RemovableHandle:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            inputs.setdefault(name, []).append(given[0] if given else named["input"])

        return linears[name].register_forward_pre_hook(hook, with_kwargs=True)

    handles = [record(name) for name in linears]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
