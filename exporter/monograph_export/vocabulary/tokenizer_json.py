"""A tokenizer.json with fewer tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monograph_export.vocabulary.token_models import TokenModel

# Where the processors of BERT and RoBERTa have a token and its id.
_SIDES = ("sep", "cls")


def added_tokens(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that are matched before the model splits anything, special ones among them, with their ids."""
    return {token["content"]: int(token["id"]) for token in tokenizer["added_tokens"]}


def processor_tokens(tokenizer: Mapping[str, Any]) -> set[str]:
    """Return the tokens that the post-processor puts around texts."""
    return _around(tokenizer.get("post_processor") or {})


def _around(step: Mapping[str, Any]) -> set[str]:
    within = {token for part in step.get("processors", ()) for token in _around(part)}
    special = {token for entry in step.get("special_tokens", {}).values() for token in entry["tokens"]}
    return within | special | {step[side][0] for side in _SIDES if side in step}


def renumbered(model: TokenModel, added: Mapping[str, int], retained: set[str]) -> dict[str, int]:
    """Return new ids without gaps for the retained tokens of a model, and for all added tokens.

    An added token keeps its id where there are so many tokens still: positions count from the padding's id in
    RoBERTa-like models. The others keep their order.
    """
    inside = sorted(
        (token for token in model.tokens if token in retained or token in added), key=model.tokens.__getitem__
    )
    outside = sorted((token for token in added if token not in model.tokens), key=added.__getitem__)
    ids = {token: model.tokens[token] for token in inside if token in added and model.tokens[token] < len(inside)}
    taken = set(ids.values())
    free = (number for number in range(len(inside)) if number not in taken)
    ids |= {token: next(free) for token in inside if token not in ids}
    return ids | {token: len(inside) + position for position, token in enumerate(outside)}


def reduced(tokenizer: Mapping[str, Any], model: TokenModel, ids: Mapping[str, int]) -> dict[str, Any]:
    """Return a tokenizer.json with the tokens that ``ids`` has, and these new ids, everywhere in it."""
    added = sorted(({**token, "id": ids[token["content"]]} for token in tokenizer["added_tokens"]), key=_id)
    return {
        **tokenizer,
        "added_tokens": added,
        "model": model.reduced(ids),
        "post_processor": _processor(tokenizer.get("post_processor"), ids),
        # Set anew at every call, by whoever pads.
        "padding": None,
    }


def _id(token: Mapping[str, Any]) -> int:
    return int(token["id"])


def _processor(step: Mapping[str, Any] | None, ids: Mapping[str, int]) -> dict[str, Any] | None:
    """Return a post-processor with new ids: they stand in it beside their tokens."""
    if step is None:
        return None
    processor = dict(step)
    if step["type"] == "Sequence":
        processor["processors"] = [_processor(part, ids) for part in step["processors"]]
    if step["type"] == "TemplateProcessing":
        processor["special_tokens"] = {
            name: {**special, "ids": [ids[token] for token in special["tokens"]]}
            for name, special in step["special_tokens"].items()
        }
    for side in _SIDES:
        if side in step:
            token, _ = step[side]
            processor[side] = [token, ids[token]]
    return processor
