"""What each linear layer of a model is given while it embeds the calibration texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# Tokens kept of each half of the texts, drawn evenly from all of them.
SAMPLE_ROWS = 1024


@dataclass(frozen=True)
class Fold:
    """The input of some layers over a part of the texts.

    ``low`` and ``high``, float32 [in], are each channel's extremes over all tokens; ``rows``, float32 [n, in], the
    inputs of some tokens.
    """

    low: Tensor
    high: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Observation:
    """The input that some linear layers share (query, key and value do), by the layers' names in the transformer.

    Every other text is in the second fold: what is chosen by one is judged by the other.
    """

    names: tuple[str, ...]
    folds: tuple[Fold, Fold]

    @property
    def all(self) -> Fold:
        """Both folds as one."""
        first, second = self.folds
        return Fold(
            torch.minimum(first.low, second.low),
            torch.maximum(first.high, second.high),
            torch.cat([first.rows, second.rows]),
        )


def observe(model: SentenceTransformer, texts: Sequence[str]) -> list[Observation]:
    """Embed each text alone, so unpadded, and return what the linear layers of the transformer were given.

    Layers that change no sentence vector (a pooler that only classification uses) are left out. One text is enough for
    the model to run, and then it is in both folds.
    """
    linears = linear_layers(model)
    groups = _groups(model, linears, texts[0])
    parts = (texts[::2], texts[1::2] or texts)
    folds = [_fold(model, {group[0]: linears[group[0]] for group in groups}, part) for part in parts]
    return [Observation(group, (folds[0][group[0]], folds[1][group[0]])) for group in groups]


def linear_layers(model: SentenceTransformer) -> dict[str, nn.Linear]:
    """Return the linear layers of a model's transformer by their names in it."""
    return {name: module for name, module in model[0].auto_model.named_modules() if isinstance(module, nn.Linear)}


def _groups(model: SentenceTransformer, linears: Mapping[str, nn.Linear], text: str) -> list[tuple[str, ...]]:
    """Return the names of the layers that vectors depend on, those with the same input together."""
    with torch.inference_mode(), _inputs_of(linears) as inputs:
        model(model.preprocess([text]))
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, values in inputs.items():
            groups.setdefault(tuple(map(id, values)), []).append(name)
    return [tuple(names) for names in groups.values() if any(_matters(model, linears[name], text) for name in names)]


def _matters(model: SentenceTransformer, linear: nn.Linear, text: str) -> bool:
    """Tell whether a layer's output reaches the sentence vector: not-a-number would get through everything."""
    handle = linear.register_forward_hook(lambda _module, _given, output: output * float("nan"))
    try:
        with torch.inference_mode():
            return not bool(model(model.preprocess([text]))["sentence_embedding"].isfinite().all())
    finally:
        handle.remove()


def _fold(model: SentenceTransformer, linears: Mapping[str, nn.Linear], texts: Sequence[str]) -> dict[str, Fold]:
    per_text = -(-SAMPLE_ROWS // len(texts))
    generator = torch.Generator().manual_seed(0)
    seen: dict[str, list[Fold]] = {name: [] for name in linears}
    with torch.inference_mode(), _inputs_of(linears) as inputs:
        for text in texts:
            inputs.clear()
            model(model.preprocess([text]))
            for name, values in inputs.items():
                tokens = torch.cat([value.reshape(-1, value.shape[-1]) for value in values])
                chosen = torch.randperm(len(tokens), generator=generator)[:per_text]
                seen[name].append(Fold(tokens.amin(dim=0), tokens.amax(dim=0), tokens[chosen]))
    return {name: _joined(parts) for name, parts in seen.items()}


def _joined(parts: Sequence[Fold]) -> Fold:
    return Fold(
        torch.stack([part.low for part in parts]).amin(dim=0),
        torch.stack([part.high for part in parts]).amax(dim=0),
        torch.cat([part.rows for part in parts]),
    )


@contextmanager
def _inputs_of(linears: Mapping[str, nn.Linear]) -> Iterator[dict[str, list[Tensor]]]:
    """Give a dictionary of the inputs of each layer, by name: one a call, for a layer may be called several times."""
    inputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> RemovableHandle:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            inputs.setdefault(name, []).append(given[0] if given else named["input"])

        return linears[name].register_forward_pre_hook(hook, with_kwargs=True)

    handles = [keep(name) for name in linears]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
