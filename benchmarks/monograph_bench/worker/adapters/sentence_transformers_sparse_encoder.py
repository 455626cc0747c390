"""SparseEncoder of sentence-transformers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SparseEncoder

from adapters.contract import TextModel
from adapters.length_order import DEFAULT_BATCH_SIZE
from adapters.sentence_transformers_backends import described, model_options


class _SparseEncoder(TextModel):
    def __init__(self, model: SparseEncoder, backend: str) -> None:
        self._model = model
        self._backend = backend

    def encode(self, texts: list[str], batch_size: int | None) -> torch.Tensor:
        # No prompt, as no other system adds one. Its default is a sparse tensor.
        found: torch.Tensor = self._model.encode(
            texts, prompt="", batch_size=batch_size or DEFAULT_BATCH_SIZE, show_progress_bar=False
        )
        return found

    def vectors(self, found: torch.Tensor) -> NDArray[np.float32]:
        return np.asarray(found.float().to_dense(), dtype=np.float32)

    def described(self) -> dict[str, str]:
        return described(self._model, self._backend)


def load(*, checkpoint: str, backend: str, compute_dtype: str, threads: int) -> TextModel:
    """Load a checkpoint, or the form of it that a backend needs; ``compute_dtype`` as in ``model_options``.

    Raises:
        ValueError: the backend does not compute in that type.

    """
    options = model_options(backend, compute_dtype, threads)
    model = SparseEncoder(checkpoint, device="cpu", backend=backend, model_kwargs=options, local_files_only=True)
    return _SparseEncoder(model, backend)
