"""fastembed, with a local ONNX file that is described to it as a custom model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from numpy.typing import NDArray

from adapters.contract import TextModel, versions

# fastembed knows models by name; a source has to be stated and is not asked, for the files are in a folder.
_NAME = "local/checkpoint"


class _FastEmbed(TextModel):
    def __init__(self, model: TextEmbedding) -> None:
        self._model = model

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        found = self._model.embed(texts) if batch_size is None else self._model.embed(texts, batch_size=batch_size)
        return np.stack(list(found))

    def described(self) -> dict[str, str]:
        session = self._model.model.model
        return versions(["fastembed", "onnxruntime", "tokenizers"]) | {
            "device": ", ".join(session.get_providers()),
            "compute_dtype": "float32",
            "threads": str(session.get_session_options().intra_op_num_threads),
        }


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> TextModel:
    """Load the ONNX form of a checkpoint.

    Raises:
        ValueError: fastembed would cut texts at another length.

    """
    settings = json.loads((Path(checkpoint) / "config.json").read_text("utf-8"))
    TextEmbedding.add_custom_model(
        model=_NAME,
        pooling=PoolingType[pooling.upper()],
        normalization=normalize,
        sources=ModelSource(hf=_NAME),
        # Only told to users: the vectors have what the graph gives.
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
