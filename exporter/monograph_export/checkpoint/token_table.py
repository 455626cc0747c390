"""Where a loaded model keeps the embeddings of its tokens: in a transformer, or in a StaticEmbedding."""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import nn


def has_transformer(model: BaseModel) -> bool:
    """Tell whether a model computes from its tokens' embeddings with a transformer, or only takes their mean."""
    return not isinstance(model[0], StaticEmbedding)


def rows_of(model: BaseModel) -> int:
    """Return the number of tokens that have an embedding."""
    rows: Any = token_table(model).num_embeddings
    return int(rows)


def token_table(model: BaseModel) -> nn.Module:
    """Return the module that holds the embeddings."""
    first = model[0]
    table: nn.Module = first.auto_model.get_input_embeddings() if has_transformer(model) else first.embedding
    return table


def set_token_table(model: BaseModel, table: nn.Module) -> None:
    """Put another module in its place."""
    first = model[0]
    if has_transformer(model):
        first.auto_model.set_input_embeddings(table)
    else:
        first.embedding = table
