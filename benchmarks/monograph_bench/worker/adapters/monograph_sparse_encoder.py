"""monograph's SparseEncoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters import monograph_bundle
from adapters.contract import TextModel
from monograph import SparseEncoder


class _Monograph(TextModel):
    def __init__(self, bundle: str, encoder: SparseEncoder) -> None:
        self._bundle = bundle
        self._encoder = encoder

    def encode(self, texts: list[str], batch_size: int | None) -> Any:
        # No prompt, as no other system adds one.
        return self._encoder.encode(texts, prompt="", batch_size=batch_size)

    def vectors(self, found: Any) -> NDArray[np.float32]:
        return np.asarray(found.toarray(), dtype=np.float32)

    def padding_share(self, texts: list[str]) -> float | None:
        return monograph_bundle.padding_share(self._bundle, self._encoder, texts)

    def described(self) -> dict[str, str]:
        return monograph_bundle.described(self._encoder)


def load(*, bundle: str, device: str, compute_dtype: str, threads: int) -> TextModel:
    """Open a bundle."""
    encoder = SparseEncoder(bundle, device=device, compute_dtype=compute_dtype, threads=threads)
    return _Monograph(bundle, encoder)
