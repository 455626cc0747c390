"""monograph's Embedder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters import monograph_bundle
from adapters.contract import TextModel
from monograph import Embedder


class _Monograph(TextModel):
    def __init__(self, bundle: str, embedder: Embedder) -> None:
        self._bundle = bundle
        self._embedder = embedder

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        # No prompt, as no other system adds one.
        return self._embedder.encode(texts, prompt="", batch_size=batch_size)

    def padding_share(self, texts: list[str]) -> float | None:
        return monograph_bundle.padding_share(self._bundle, self._embedder, texts)

    def described(self) -> dict[str, str]:
        return monograph_bundle.described(self._embedder)


def load(*, bundle: str, device: str, compute_dtype: str, threads: int) -> TextModel:
    """Open a bundle."""
    return _Monograph(bundle, Embedder(bundle, device=device, compute_dtype=compute_dtype, threads=threads))
