"""A SparseEncoder of sentence-transformers with SciPy's arrays for vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sentence_transformers import SparseEncoder

from monograph_export.checkpoint.load import load_folder
from monograph_export.checkpoint.modules import SPARSE


class TorchSparseEncoder:
    """What ``SparseEncoder`` of sparse_retrieval asks for, by sentence-transformers in torch."""

    def __init__(self, model: SparseEncoder) -> None:
        self._model = model

    def encode_query(self, texts: list[str]) -> csr_array:
        """Embed queries."""
        return _array(self._model.encode_query(texts, save_to_cpu=True))

    def encode_document(self, texts: list[str]) -> csr_array:
        """Embed documents."""
        return _array(self._model.encode_document(texts, save_to_cpu=True))

    def similarity(self, first: csr_array, second: csr_array) -> NDArray[np.float32]:
        """Compare vectors by the model's own function, float32 [n, m]."""
        found = self._model.similarity(_tensor(first), _tensor(second))
        return np.asarray(found.to_dense(), dtype=np.float32)


def load_torch_sparse(folder: Path) -> TorchSparseEncoder:
    """Load a checkpoint folder in torch on the CPU at float32."""
    return TorchSparseEncoder(load_folder(folder, SPARSE).whole)


def _array(vectors: torch.Tensor) -> csr_array:
    vectors = vectors.coalesce()
    return csr_array((vectors.values().numpy(), vectors.indices().numpy()), shape=tuple(vectors.shape))


def _tensor(vectors: csr_array) -> torch.Tensor:
    entries = vectors.tocoo()
    places = torch.from_numpy(np.stack([entries.row, entries.col]))
    return torch.sparse_coo_tensor(places, torch.from_numpy(entries.data), entries.shape, check_invariants=True)
