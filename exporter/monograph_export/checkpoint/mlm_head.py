"""The head of a model of masked words: a logit for each token of the vocabulary, of which SPLADE makes its vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sentence_transformers.base.model import BaseModel
from torch import nn

from monograph.errors import UnsupportedModuleError

_SAMPLE = "a text, to see whether the head ends in one product"


def decoder_of(model: BaseModel) -> nn.Module:
    """Return the last layer of the head, which multiplies with a row of weights for each token."""
    return model[0].auto_model.get_submodule(_decoder_name(model))  # type: ignore[no-any-return]


def set_decoder(model: BaseModel, decoder: nn.Module) -> None:
    """Put another module in its place."""
    model[0].auto_model.set_submodule(_decoder_name(model), decoder)


@contextmanager
def without_decoder(model: BaseModel) -> Iterator[nn.Module]:
    """Give the decoder, and have the transformer give what is before it, float32 [batch, sequence, hidden], within."""
    transformer, name = model[0].auto_model, _decoder_name(model)
    decoder: nn.Module = transformer.get_submodule(name)
    transformer.set_submodule(name, nn.Identity())
    try:
        yield decoder
    finally:
        transformer.set_submodule(name, decoder)


def check_mlm_head(model: BaseModel, name: object) -> None:
    """Refuse a head whose logits are not what its decoder makes of the hidden states.

    Raises:
        UnsupportedModuleError: they are not, or it has no linear decoder.

    """
    found = type(model[0].auto_model).__name__
    if not isinstance(model[0].auto_model.get_output_embeddings(), nn.Linear):
        raise UnsupportedModuleError(f"{name}: the head of {found} has no linear layer over the vocabulary")
    refusal = f"{name}: the head of {found} does not end in its linear layer"
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
