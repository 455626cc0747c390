"""Retrieval with sparse vectors, which stay sparse: how good it is, and how many dimensions are active."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from monograph_bench.evaluation.beir import BeirFolder
from monograph_bench.evaluation.encoder import not_finite
from monograph_bench.evaluation.retrieval import DEPTH, ranked, ranking_scores
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.tasks.sparse import SPARSE_EXPORT


class SparseEncoder(Protocol):
    """A SparseEncoder of monograph, or one of sentence-transformers whose vectors are SciPy's.

    The methods that embed take n texts and return float32 csr arrays [n, vocabulary]; ``similarity`` takes two of them,
    of n and of m rows, and returns [n, m], larger for what is more alike.
    """

    def encode_query(self, texts: list[str], /) -> csr_array:
        """Embed texts behind the model's prompt for queries."""

    def encode_document(self, texts: list[str], /) -> csr_array:
        """Embed texts behind the model's prompt for documents."""

    def similarity(self, first: csr_array, second: csr_array, /) -> Any:
        """Compare every vector with every other by the model's own function."""


def sparse_retrieval_scores(encoder: SparseEncoder, data: BeirFolder) -> dict[str, float]:
    """Return the scores of ``retrieval_scores``, and the mean number of active dimensions of a vector.

    The latter are "query_active_dims" and "corpus_active_dims", as sentence-transformers'
    SparseInformationRetrievalEvaluator names them: numbers of dimensions, not points of 100. The vectors of one block
    of documents are in memory at a time.

    Raises:
        EvaluationError: vectors are not finite.
        InputError: the corpus has changed since ``data`` was read, and is malformed.

    """
    active = {"query_active_dims": 0, "corpus_active_dims": 0}

    def embed_and_count(encode: Callable[[list[str]], csr_array], texts: list[str]) -> csr_array:
        vectors = embed_sparse(encode, texts)
        side = "query_active_dims" if encode == encoder.encode_query else "corpus_active_dims"
        active[side] += int(np.count_nonzero(vectors.data))
        return vectors

    queries = list(data.queries.values())
    scores = ranking_scores(ranked(encoder, queries, data.documents(), DEPTH, embed=embed_and_count), data)
    counts = (len(queries), data.document_count)
    return scores | {side: total / count for (side, total), count in zip(active.items(), counts, strict=True)}


def embed_sparse(encode: Callable[[list[str]], csr_array], texts: list[str]) -> csr_array:
    """Return the vectors of texts, a float32 csr array [n, vocabulary], by one of an encoder's methods.

    Raises:
        EvaluationError: a vector has a value that is infinite or not a number.

    """
    vectors = csr_array(encode(texts))
    if not np.isfinite(vectors.data).all():
        rows = np.repeat(np.arange(vectors.shape[0]), np.diff(vectors.indptr))
        raise not_finite(texts, np.unique(rows[~np.isfinite(vectors.data)]))
    return vectors


class TorchSparseEncoder:
    """A SparseEncoder of sentence-transformers in torch, with SciPy's arrays for vectors."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode_query(self, texts: list[str]) -> csr_array:
        """Embed queries."""
        return _to_array(self._model.encode_query(texts, save_to_cpu=True))

    def encode_document(self, texts: list[str]) -> csr_array:
        """Embed documents."""
        return _to_array(self._model.encode_document(texts, save_to_cpu=True))

    def similarity(self, first: csr_array, second: csr_array) -> NDArray[np.float32]:
        """Compare vectors by the model's own function, float32 [n, m]."""
        similarities = self._model.similarity(_to_tensor(first), _to_tensor(second))
        return np.asarray(similarities.to_dense(), dtype=np.float32)


def load_torch_sparse(folder: Path) -> TorchSparseEncoder:
    """Load a checkpoint folder in torch on the CPU at float32."""
    return TorchSparseEncoder(SPARSE_EXPORT.load(read_checkpoint(folder)).whole)


def _to_array(vectors: Any) -> csr_array:
    vectors = vectors.coalesce()
    return csr_array((vectors.values().numpy(), vectors.indices().numpy()), shape=tuple(vectors.shape))


def _to_tensor(vectors: csr_array) -> Any:
    import torch

    entries = vectors.tocoo()
    places = torch.from_numpy(np.stack([entries.row, entries.col]))
    return torch.sparse_coo_tensor(places, torch.from_numpy(entries.data), entries.shape, check_invariants=True)
