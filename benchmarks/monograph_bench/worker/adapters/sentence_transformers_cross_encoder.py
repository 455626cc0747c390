"""CrossEncoder of sentence-transformers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from adapters.contract import Pair, PairModel
from adapters.length_order import DEFAULT_BATCH_SIZE
from adapters.sentence_transformers_backends import described, model_options


class _CrossEncoder(PairModel):
    def __init__(self, model: CrossEncoder, backend: str) -> None:
        self._model = model
        self._backend = backend

    def encode(self, texts: list[Pair], batch_size: int | None) -> NDArray[np.float32]:
        # No prompt, as no other system adds one.
        found = self._model.predict(
            texts, prompt="", batch_size=batch_size or DEFAULT_BATCH_SIZE, show_progress_bar=False,
            activation_fn=torch.nn.Identity(), convert_to_numpy=True,
        )  # fmt: skip
        return np.asarray(found, dtype=np.float32)

    def described(self) -> dict[str, str]:
        return described(self._model, self._backend)


def load(*, checkpoint: str, backend: str, compute_dtype: str, threads: int) -> PairModel:
    """Load a checkpoint, or the form of it that a backend needs; ``compute_dtype`` as in ``model_options``.

    Raises:
        ValueError: the backend does not compute in that type.

    """
    options = model_options(backend, compute_dtype, threads)
    model = CrossEncoder(checkpoint, device="cpu", backend=backend, model_kwargs=options, local_files_only=True)
    return _CrossEncoder(model, backend)
