"""An encoder whose vectors are given, for evaluators: monograph's and those of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util import cos_sim


class FixedEncoder:
    """Looks texts up; remembers by which method each was embedded.

    The options that evaluators of sentence-transformers give, but for the kind of result, change nothing.
    """

    similarity_fn_name = "cosine"

    def __init__(self, vectors: Mapping[str, Sequence[float] | NDArray[Any]]) -> None:
        self._vectors = {text: np.asarray(vector, np.float32) for text, vector in vectors.items()}
        self.calls: list[tuple[str, str]] = []
        # What evaluators of sentence-transformers report to.
        self.model_card_data = self

    def set_evaluation_metrics(self, *_: object) -> None:
        """Take the scores that an evaluator would put into a model's card."""

    def encode(self, texts: list[str], *, convert_to_numpy: bool = True, **_: object) -> Any:
        vectors = self._look_up("encode", texts)
        return vectors if convert_to_numpy else list(torch.from_numpy(vectors))

    def encode_query(self, texts: list[str], *, convert_to_tensor: bool = False, **_: object) -> Any:
        vectors = self._look_up("encode_query", texts)
        return torch.from_numpy(vectors) if convert_to_tensor else vectors

    def encode_document(self, texts: list[str], *, convert_to_tensor: bool = False, **_: object) -> Any:
        vectors = self._look_up("encode_document", texts)
        return torch.from_numpy(vectors) if convert_to_tensor else vectors

    def similarity(self, first: Any, second: Any) -> Any:
        return cos_sim(first, second)

    def _look_up(self, method: str, texts: list[str]) -> NDArray[np.float32]:
        self.calls += [(method, text) for text in texts]
        return np.stack([self._vectors[text] for text in texts])
