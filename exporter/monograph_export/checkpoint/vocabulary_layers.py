"""The layers of a loaded model that have a row for each token: its table of embeddings, and the head of an MLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from torch import nn

from monograph.errors import UnsupportedModuleError

_SAMPLE = "a text, to see whether the head ends in one product"


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


def decoder_of(model: BaseModel) -> nn.Module:
    """Return the last layer of an MLM head, which multiplies with a row of weights for each token."""
    return model[0].auto_model.get_submodule(_decoder_name(model))  # type: ignore[no-any-return]


def set_decoder(model: BaseModel, decoder: nn.Module) -> None:
    """Put another module in its place."""
    model[0].auto_model.set_submodule(_decoder_name(model), decoder)


@contextmanager
def without_decoder(model: BaseModel) -> Iterator[nn.Module]:
    """Give the decoder, and have the transformer give what is before it, float32 [batch, sequence, hidden], within."""
    decoder = decoder_of(model)
    name = _decoder_name(model)
    model[0].auto_model.set_submodule(name, nn.Identity())
    try:
        yield decoder
    finally:
        model[0].auto_model.set_submodule(name, decoder)


def check_mlm_head(model: BaseModel, name: object) -> None:
    """Refuse an MLM head whose logits are not what its decoder makes of the hidden states.

    Raises:
        UnsupportedModuleError: they are not, or it has no linear decoder.

    """
    architecture = type(model[0].auto_model).__name__
    if not isinstance(model[0].auto_model.get_output_embeddings(), nn.Linear):
        raise UnsupportedModuleError(f"{name}: the head of {architecture} has no linear layer over the vocabulary")
    refusal = f"{name}: the head of {architecture} does not end in its linear layer"
    features = model.preprocess([_SAMPLE])
    with torch.inference_mode():
        logits = model[0](dict(features))["token_embeddings"]
        try:
            with without_decoder(model) as decoder:
                decoded = decoder(model[0](dict(features))["token_embeddings"])
        except (AttributeError, RuntimeError) as error:
            # Heads that read its weights, or add a bias of the vocabulary's size.
            raise UnsupportedModuleError(refusal) from error
    if decoded.shape != logits.shape or not torch.equal(decoded, logits):
        raise UnsupportedModuleError(refusal)


def _decoder_name(model: BaseModel) -> str:
    transformer = model[0].auto_model
    # By itself and not by its kind: compressed, it is another.
    decoder = transformer.get_output_embeddings()
    names: dict[int, str] = {id(module): name for name, module in transformer.named_modules()}
    return names[id(decoder)]
