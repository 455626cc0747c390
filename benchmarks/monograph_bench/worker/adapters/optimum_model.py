"""optimum's ONNX Runtime model and transformers' tokenizer, with the lines that users write behind them."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from optimum.onnxruntime import ORTModelForFeatureExtraction
from transformers import AutoTokenizer

from adapters.base import Model, describe_session, in_length_order, pool, versions


class _Optimum(Model):
    def __init__(
        self,
        model: ORTModelForFeatureExtraction,
        tokenizer: AutoTokenizer,
        pooling: str,
        normalize: bool,
        max_length: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._normalize = normalize
        self._max_length = max_length

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        return in_length_order(texts, batch_size, self._embed)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="np")
        states: NDArray[np.float32] = self._model(**inputs).last_hidden_state
        return pool(states, inputs["attention_mask"], self._pooling, self._normalize)

    def describe(self) -> dict[str, str]:
        packages = ["optimum", "optimum-onnx", "transformers", "onnxruntime"]
        return versions(packages) | describe_session(self._model.session)


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:
    """Load a checkpoint exported to ONNX.

    Raises:
        ValueError: tokens are padded on the left, where the first one is not that of cls pooling.

    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForFeatureExtraction.from_pretrained(
        checkpoint, subfolder="onnx", file_name="model.onnx", provider="CPUExecutionProvider", session_options=options,
        local_files_only=True,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    if tokenizer.padding_side != "right":
        raise ValueError("the tokenizer pads on the left, for which cls pooling by hand is not written")
    return _Optimum(model, tokenizer, pooling, normalize, max_length)
