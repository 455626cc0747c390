"""light-embed, with a local ONNX file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import onnxruntime
from light_embed import TextEmbedding
from numpy.typing import NDArray

from adapters.base import Model, describe_session, versions


class _LightEmbed(Model):
    def __init__(self, model: TextEmbedding) -> None:
        self._model = model

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        vectors = self._model.encode(texts) if batch_size is None else self._model.encode(texts, batch_size=batch_size)
        # float64 where it pools in NumPy with an integer mask.
        return np.asarray(vectors, dtype=np.float32)

    def describe(self) -> dict[str, str]:
        session = self._model.modules[0]._session
        return versions(["light-embed", "onnxruntime", "tokenizers"]) | describe_session(session)


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:
    """Load a checkpoint exported to ONNX.

    Raises:
        ValueError: light-embed would cut texts at another length.

    """
    # Of a local model it reads neither the pooling nor whether vectors are normalized; by default it normalizes.
    config = {"onnx_file": "onnx/model.onnx", "pooling_mode": pooling, "normalize": normalize}
    with _session_threads(threads):
        model = TextEmbedding(checkpoint, device="cpu", model_config=config)
    cut = model.tokenizer.model_max_length
    if cut != max_length:
        raise ValueError(f"light-embed cuts texts at {cut} tokens and the model at {max_length}")
    return _LightEmbed(model)


@contextlib.contextmanager
def _session_threads(threads: int) -> Iterator[None]:
    """Have ONNX Runtime's sessions made meanwhile use so many threads.

    light-embed has no option for it, and ONNX Runtime by itself counts the host's cores, whatever the affinity mask.
    """
    original = onnxruntime.SessionOptions

    def options() -> object:
        made = original()
        made.intra_op_num_threads = threads
        return made

    onnxruntime.SessionOptions = options
    try:
        yield
    finally:
        onnxruntime.SessionOptions = original
