"""An encoder whose sparse vectors are given, with SciPy's arrays for vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


class FixedSparseEncoder:
    """Looks texts up; remembers by which method each was embedded, and the shapes that were compared."""

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self._vectors = {text: np.asarray(vector, np.float32) for text, vector in vectors.items()}
        self.calls: list[tuple[str, str]] = []
        self.compared: list[tuple[int, int]] = []

    def encode_query(self, texts: list[str]) -> csr_array:
        return self._look_up("encode_query", texts)

    def encode_document(self, texts: list[str]) -> csr_array:
        return self._look_up("encode_document", texts)

    def similarity(self, first: csr_array, second: csr_array) -> NDArray[np.float32]:
        assert isinstance(first, csr_array)
        assert isinstance(second, csr_array)
        self.compared.append((first.shape[0], second.shape[0]))
        product: NDArray[np.float32] = (first @ second.T).toarray()
        return product

    def _look_up(self, method: str, texts: list[str]) -> csr_array:
        self.calls += [(method, text) for text in texts]
        return csr_array(np.stack([self._vectors[text] for text in texts]))
