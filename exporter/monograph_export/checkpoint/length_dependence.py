"""What a loaded model computes otherwise where a text, or another text of its batch, is longer than so many tokens.

BigBird attends to blocks of a long text and to all of a short one, and stays with the latter once it has had one.
Rotary positions of the types dynamic and longrope have other frequencies in a batch that holds a long text. A graph has
one form, so such a model is exported for the lengths at which it has one: its choice is then made beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sentence_transformers.base.model import BaseModel

from monograph.errors import UnsupportedModuleError
from monograph_export.checkpoint.vocabulary_layers import has_transformer

_BLOCK_SPARSE, _FULL = "block_sparse", "original_full"
_LONGROPE, _DYNAMIC = "longrope", "dynamic"
_UNCHANGING = "default"


@dataclass(frozen=True)
class _Change:
    """What changes beyond ``limit`` tokens, in words, and a function that has it stay as it is up to there."""

    what: str
    limit: int
    settle: Callable[[], None]


def settle_length_dependence(model: BaseModel, name: object) -> None:
    """Have a model compute texts of every length alike, in place, where its maximum length allows no others.

    ``name`` is what errors call the model.

    Raises:
        UnsupportedModuleError: longer texts are computed otherwise, and its maximum length allows them.

    """
    if not has_transformer(model):
        return
    for change in _changes(model[0].auto_model):
        longest = _longest(model)
        if longest is None or longest > change.limit:
            allowed = "no maximum length" if longest is None else f"a maximum length of {longest}"
            raise UnsupportedModuleError(
                f"{name}: {change.what} for batches with a text of more than {change.limit} tokens, which a graph "
                f"cannot do, and the model has {allowed}: set max_seq_length in sentence_bert_config.json to "
                f"{change.limit} or less"
            )
        change.settle()


def _longest(model: BaseModel) -> int | None:
    """Return the number of tokens of the longest text that is not refused or truncated, None where there is none."""
    stated = (model.max_seq_length, getattr(model[0].config, "max_position_embeddings", None))
    # Positions of RoPE go on beyond what the config states, and a config of XLNet states -1.
    limits = [stated[0]] if _is_rotary(model) else stated
    numbers = [int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < float("inf")]
    return min(numbers, default=None)


def _is_rotary(model: BaseModel) -> bool:
    return any(hasattr(module, "rope_type") for module in model[0].auto_model.modules())


def _changes(transformer: Any) -> Iterator[_Change]:
    for module in transformer.modules():
        if hasattr(module, "rope_type"):
            yield from _changes_of_positions(module)
    if getattr(transformer.base_model, "attention_type", None) == _BLOCK_SPARSE:
        config, base = transformer.config, transformer.base_model
        blocks = 5 + 2 * config.num_random_blocks
        yield _Change(
            f"{type(transformer).__name__} attends to blocks of the text",
            blocks * config.block_size,
            partial(base.set_attention_type, _FULL),
        )


def _changes_of_positions(module: Any) -> Iterator[_Change]:
    """Yield what changes in a rotary embedding, which may be of several types of layers."""
    types = module.rope_type if isinstance(module.rope_type, dict) else {None: module.rope_type}
    for layer, type_ in types.items():
        if type_ != _LONGROPE and _DYNAMIC not in str(type_):
            continue
        parameters = module.config.rope_parameters
        parameters = parameters if layer is None else parameters[layer]
        limit = parameters["original_max_position_embeddings"] if type_ == _LONGROPE else module.original_max_seq_len
        what = f"the frequencies of its rotary positions (rope_type {type_}) change"
        yield _Change(what, int(limit), partial(_settle_positions, module, layer))


def _settle_positions(module: Any, layer: str | None) -> None:
    """Give a rotary embedding the frequencies of short texts for good."""
    prefix = "" if layer is None else f"{layer}_"
    frequencies = getattr(module, f"{prefix}inv_freq")
    # Another text may have changed them before.
    module.register_buffer(
        f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq").to(frequencies.device), persistent=False
    )
    module.rope_type = _UNCHANGING if layer is None else {**module.rope_type, layer: _UNCHANGING}
