"""monograph's CrossEncoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters import monograph_bundle
from adapters.contract import Pair, PairModel
from monograph import CrossEncoder


class _Monograph(PairModel):
    def __init__(self, bundle: str, model: CrossEncoder) -> None:
        self._bundle = bundle
        self._model = model

    def encode(self, texts: list[Pair], batch_size: int | None) -> NDArray[np.float32]:
        # No prompt, as no other system adds one.
        return self._model.predict(texts, prompt="", batch_size=batch_size, activation_fn="Identity")

    def padding_share(self, texts: list[Pair]) -> float | None:
        return monograph_bundle.padding_share(self._bundle, self._model, texts)

    def described(self) -> dict[str, str]:
        return monograph_bundle.described(self._model)


def load(*, bundle: str, device: str, compute_dtype: str, threads: int) -> PairModel:
    """Open a bundle."""
    return _Monograph(bundle, CrossEncoder(bundle, device=device, compute_dtype=compute_dtype, threads=threads))
