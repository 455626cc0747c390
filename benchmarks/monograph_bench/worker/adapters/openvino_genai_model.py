"""OpenVINO GenAI's pipeline of text embeddings, which takes one batch a call."""

from __future__ import annotations

import numpy as np
import openvino
import openvino_genai
from numpy.typing import NDArray

from adapters.base import Model, in_length_order, openvino_type_name, versions

_DEVICE = "CPU"


class _GenAI(Model):
    def __init__(self, pipeline: openvino_genai.TextEmbeddingPipeline, threads: int) -> None:
        self._pipeline = pipeline
        self._threads = threads

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        return in_length_order(texts, batch_size, self._embed)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(self._pipeline.embed_documents(texts), dtype=np.float32)

    def describe(self) -> dict[str, str]:
        # The pipeline does not show its compiled model; this is the type that the CPU plugin takes by default.
        default = openvino.Core().get_property(_DEVICE, "INFERENCE_PRECISION_HINT")
        return versions(["openvino-genai", "openvino", "openvino-tokenizers"]) | {
            "device": _DEVICE,
            "compute_dtype": openvino_type_name(default),
            "threads": str(self._threads),
        }


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:
    """Load a checkpoint exported to OpenVINO."""
    config = openvino_genai.TextEmbeddingPipeline.Config()
    config.pooling_type = openvino_genai.TextEmbeddingPipeline.PoolingType.__members__[pooling.upper()]
    config.normalize = normalize
    config.max_length = max_length
    pipeline = openvino_genai.TextEmbeddingPipeline(checkpoint, _DEVICE, config, INFERENCE_NUM_THREADS=threads)
    return _GenAI(pipeline, threads)
