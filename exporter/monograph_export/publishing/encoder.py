"""A checkpoint in torch as the reference of published graphs: its encoder, and the modules after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.model import BaseModel

from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING

_TOKENS = "token_embeddings"


class Encoder:
    """A Sentence Transformer in two parts; ``width`` is that of a token's vector."""

    def __init__(self, model: BaseModel, width: int) -> None:
        self._first, *self._following = model
        self.width = width

    def tokens(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return the encoder's vectors of all tokens, float32 [b, s, width], of int64 inputs [b, s] by name."""
        features: dict[str, Any] = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode():
            return np.asarray(self._first(features)[_TOKENS].float().numpy())

    def pooled(self, tokens: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the modules after the encoder make of ``tokens`` [b, s, width] with a mask [b, s]: [b, d]."""
        features: dict[str, Any] = {_TOKENS: torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            for module in self._following:
                features = module(features)
        return np.asarray(features[SENTENCE_EMBEDDING].numpy())
