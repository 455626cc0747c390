"""Whether a loaded model has positions for texts of its maximum length; where it has fewer, texts are truncated."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from torch import nn

from monograph.errors import ExportError
from monograph_export.checkpoint.max_length import (
    NO_LIMIT,
    check_room,
    checked_length,
    describe_truncation,
    lowered_length,
    tiled,
)
from monograph_export.checkpoint.vocabulary_layers import has_transformer, token_table
from monograph_export.foreign_errors import is_out_of_memory, plain_line

logger = logging.getLogger(__name__)
# What the tables of learned or computed positions are called: position_embeddings, embed_positions, wpe. Relative ones
# have a row for a distance.
_POSITIONS, _RELATIVE = ("pos", "wpe"), "rel"
# Rows that tables have in front of those for tokens, at most: OPT 2, and RoBERTa one more than its padding id.
_ROWS_IN_FRONT = 2


def limit_length(model: BaseModel, name: object, samples: Any, texts: str) -> None:
    """Lower a model's maximum length in place to what its table of positions allows, with a warning.

    ``samples`` are inputs of it, and ``texts`` is what its inputs are called.

    Raises:
        ExportError: the maximum length is not a number of tokens, or texts of that length need too much memory.

    """
    if not has_transformer(model):
        return
    limit = checked_length(model.max_seq_length, name, "the maximum length")
    if limit is None:
        # Sentence Transformers takes no other word for it.
        model.max_seq_length = NO_LIMIT
    features = _features(model, name, samples)
    if limit is not None:
        check_room(limit, features["input_ids"].shape[-1], name)
    tables = list(_position_tables(model))
    if not tables:
        return
    rows = max(table.num_embeddings for table in tables)
    in_front = {0, _ROWS_IN_FRONT, *(table.padding_idx + 1 for table in tables if table.padding_idx is not None)}
    if limit is not None and limit + max(in_front) <= min(table.num_embeddings for table in tables):
        return
    lowered = lowered_length(lambda length: _runs(model, features, length), limit, rows, {rows - n for n in in_front})
    if lowered is not None:
        logger.warning("%s", describe_truncation(name, limit, lowered, texts))
        model.max_seq_length = lowered


def _features(model: BaseModel, name: object, samples: Any) -> dict[str, Any]:
    try:
        return dict(model.preprocess([samples[0]]))
    except Exception as error:
        raise ExportError(f"{name}: {_tokenizing_problem(model, samples, error)}") from error


def _tokenizing_problem(model: BaseModel, samples: Any, error: Exception) -> str:
    """Return why a model's tokenizer fails on a text, and what to do."""
    if model.tokenizer.pad_token is None:
        return (
            "its tokenizer has no padding token, without which sentence-transformers cannot run it either: set "
            "pad_token in tokenizer_config.json, to its end-of-text token for example"
        )
    limit, model.max_seq_length = model.max_seq_length, NO_LIMIT
    try:
        model.preprocess([samples[0]])
    except Exception:  # noqa: BLE001 - whatever it is, the limit is not the cause
        return (
            f"its tokenizer cannot run ({plain_line(error)}): it is incomplete or damaged, so download it again, or "
            "save it anew with what is missing"
        )
    return (
        f"its tokenizer cannot run with a maximum length of {limit} tokens ({plain_line(error)}): set max_seq_length "
        "in sentence_bert_config.json to a number that special tokens leave room in"
    )


def _position_tables(model: BaseModel) -> Iterator[nn.Embedding]:
    token_embeddings = token_table(model)
    for path, module in model[0].auto_model.named_modules():
        name = path.rpartition(".")[2]
        of_positions = any(part in name for part in _POSITIONS) and _RELATIVE not in name
        if of_positions and isinstance(module, nn.Embedding) and module is not token_embeddings:
            yield module


def _runs(model: BaseModel, features: dict[str, Any], length: int) -> bool:
    """Tell whether a model's transformer takes a text of so many tokens."""
    sample = features["input_ids"].shape
    longer = {
        key: tiled(value, length) if isinstance(value, torch.Tensor) and value.shape == sample else value
        for key, value in features.items()
    }
    with torch.inference_mode():
        try:
            model[0](longer)
        except Exception as error:
            if is_out_of_memory(error):
                raise ExportError(
                    f"there is not enough memory to run the model on a text of {length} tokens, its maximum length: "
                    "set a lower max_seq_length in sentence_bert_config.json, or export on a machine with more memory"
                ) from error
            return False
    return True
