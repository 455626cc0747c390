"""Where a loaded model keeps what it knows of its tokens: in a transformer, a StaticEmbedding or its sparse form."""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from torch import nn


def has_transformer(model: BaseModel) -> bool:
    """Tell whether a model computes with a transformer, or only takes a mean of embeddings, or weights of tokens."""
    return not isinstance(model[0], (StaticEmbedding, SparseStaticEmbedding))


def rows_of(model: BaseModel) -> int:
    """Return the number of tokens that have an embedding, or a weight."""
    table: Any = token_table(model)
    return int(table.num_dimensions if isinstance(table, SparseStaticEmbedding) else table.num_embeddings)


def token_table(model: BaseModel) -> nn.Module:
    """Return the module that holds the embeddings; for weights of tokens that which takes the texts."""
    first = model[0]
    if isinstance(first, SparseStaticEmbedding):
        return first  # type: ignore[no-any-return]
    table: nn.Module = first.auto_model.get_input_embeddings() if has_transformer(model) else first.embedding
    return table


def set_token_table(model: BaseModel, table: nn.Module) -> None:
    """Put another module in its place."""
    first = model[0]
    if has_transformer(model):
        first.auto_model.set_input_embeddings(table)
    else:
        first.embedding = table
