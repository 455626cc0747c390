"""CTranslate2's encoder at int8 and the tokenizers package, with the lines that users write behind them."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from adapters.base import Model, in_length_order, pool, versions

_DEVICE, _COMPUTE_TYPE = "cpu", "int8"


class _CTranslate2(Model):
    def __init__(
        self, encoder: ctranslate2.Encoder, tokenizer: Tokenizer, threads: int, pooling: str, normalize: bool
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._threads = threads
        self._pooling = pooling
        self._normalize = normalize

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        return in_length_order(texts, batch_size, self._embed)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        states = np.array(self._encoder.forward_batch(ids).last_hidden_state)
        lengths = np.array([len(row) for row in ids])
        return pool(states, np.arange(states.shape[1]) < lengths[:, np.newaxis], self._pooling, self._normalize)

    def describe(self) -> dict[str, str]:
        return versions(["ctranslate2", "tokenizers"]) | {
            "device": self._encoder.device,
            "compute_dtype": self._encoder.compute_type,
            "threads": str(self._threads),
        }


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:
    """Load a checkpoint converted by CTranslate2."""
    folder = str(Path(checkpoint) / "ctranslate2")
    encoder = ctranslate2.Encoder(
        folder, device=_DEVICE, compute_type=_COMPUTE_TYPE, inter_threads=1, intra_threads=threads
    )
    tokenizer = Tokenizer.from_file(str(Path(checkpoint) / "tokenizer.json"))
    # The encoder pads.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return _CTranslate2(encoder, tokenizer, threads, pooling, normalize)
