"""Retrieval with sparse vectors, which stay sparse: how good it is, and how many dimensions it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from monograph_bench.evaluation.beir import BeirFolder
from monograph_bench.evaluation.encoder import not_finite
from monograph_bench.evaluation.ranking import ranked
from monograph_bench.evaluation.retrieval import DEPTH, judged_scores


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
    """Return the scores of ``retrieval_scores``, and the mean number of dimensions of a vector that are not zero.

    The latter are "query_active_dims" and "corpus_active_dims", as sentence-transformers'
    SparseInformationRetrievalEvaluator names them: numbers of dimensions, and no points of 100. The vectors of one
    block of documents are in memory at a time.

    Raises:
        EvaluationError: vectors are not finite.
        InputError: the corpus has changed since ``data`` was read, and is malformed.

    """
    counted = _Counted(encoder)
    found = ranked(counted, list(data.queries.values()), data.documents(), DEPTH, embed=embed_sparse)
    return judged_scores(found, data) | {
        "query_active_dims": counted.queries.mean,
        "corpus_active_dims": counted.documents.mean,
    }


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


class _Active:
    """Vectors that were seen, and their values that are not zero."""

    def __init__(self) -> None:
        self._vectors = self._values = 0

    def see(self, vectors: csr_array) -> csr_array:
        self._vectors += vectors.shape[0]
        self._values += int(np.count_nonzero(vectors.data))
        return vectors

    @property
    def mean(self) -> float:
        return self._values / self._vectors


class _Counted:
    """An encoder that counts what it gives."""

    def __init__(self, encoder: SparseEncoder) -> None:
        self._encoder = encoder
        self.queries, self.documents = _Active(), _Active()

    def encode_query(self, texts: list[str]) -> csr_array:
        return self.queries.see(self._encoder.encode_query(texts))

    def encode_document(self, texts: list[str]) -> csr_array:
        return self.documents.see(self._encoder.encode_document(texts))

    def similarity(self, first: csr_array, second: csr_array) -> Any:
        return self._encoder.similarity(first, second)
