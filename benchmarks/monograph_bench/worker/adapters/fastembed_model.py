"""fastembed, with a local ONNX file that is described to it as a custom model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from numpy.typing import NDArray

from adapters.base import Model, describe_session, versions

# fastembed knows models by name; a source has to be stated and is not used, for the files are in a folder.
_NAME = "local/checkpoint"


class _FastEmbed(Model):
    def __init__(self, model: TextEmbedding) -> None:
        self._model = model

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        vectors = self._model.embed(texts) if batch_size is None else self._model.embed(texts, batch_size=batch_size)
        return np.stack(list(vectors))

    def describe(self) -> dict[str, str]:
        return versions(["fastembed", "onnxruntime", "tokenizers"]) | describe_session(self._model.model.model)


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:
    """Load a checkpoint exported to ONNX.

    Raises:
        ValueError: fastembed would cut texts at another length.

    """
    settings = json.loads((Path(checkpoint) / "config.json").read_text("utf-8"))
    TextEmbedding.add_custom_model(
        model=_NAME,
        pooling=PoolingType[pooling.upper()],
        normalization=normalize,
        sources=ModelSource(hf=_NAME),
        # Only shown to users: the vectors have what the graph gives.
        dim=settings.get("hidden_size", settings.get("dim")),
        model_file="onnx/model.onnx",
    )
    model = TextEmbedding(
        _NAME,
        threads=threads,
        providers=["CPUExecutionProvider"],
        specific_model_path=checkpoint,
        local_files_only=True,
    )
    cut = model.model.tokenizer.truncation["max_length"]
    if cut != max_length:
        raise ValueError(f"fastembed cuts texts at {cut} tokens and the model at {max_length}")
    return _FastEmbed(model)
