"""OpenVINO GenAI's pipeline of text embeddings, which takes one batch a call."""

from __future__ import annotations

import numpy as np
import openvino
import openvino_genai
from numpy.typing import NDArray

from adapters.contract import TextModel, versions
from adapters.length_order import in_length_order
from adapters.openvino_types import type_name

_DEVICE = "CPU"


class _GenAI(TextModel):
    def __init__(self, pipeline: openvino_genai.TextEmbeddingPipeline, threads: int) -> None:
        self._pipeline = pipeline
        self._threads = threads

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        return in_length_order(texts, batch_size, self._embed)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(self._pipeline.embed_documents(texts), dtype=np.float32)

    def described(self) -> dict[str, str]:
        # The pipeline does not show its compiled model; this is the type that the CPU plugin takes unless told.
        taken = openvino.Core().get_property(_DEVICE, "INFERENCE_PRECISION_HINT")
        return versions(["openvino-genai", "openvino", "openvino-tokenizers"]) | {
            "device": _DEVICE,
            "compute_dtype": type_name(taken),
            "threads": str(self._threads),
        }


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> TextModel:
    """Load the OpenVINO form of a checkpoint."""
    config = openvino_genai.TextEmbeddingPipeline.Config()
    config.pooling_type = openvino_genai.TextEmbeddingPipeline.PoolingType.__members__[pooling.upper()]
    config.normalize = normalize
    config.max_length = max_length
    pipeline = openvino_genai.TextEmbeddingPipeline(checkpoint, _DEVICE, config, INFERENCE_NUM_THREADS=threads)
    return _GenAI(pipeline, threads)
