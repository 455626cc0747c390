"""Retrieval by late interaction: how good MaxSim ranks documents, and how many vectors a text has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monograph_bench.evaluation.beir import BeirFolder
from monograph_bench.evaluation.encoder import not_finite
from monograph_bench.evaluation.retrieval import DEPTH, ranked, ranking_scores
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.tasks.multi_vector import MULTI_VECTOR_EXPORT

# A document has a hundred vectors and not one: fewer are in memory at a time.
_DOCUMENTS = 1024


class MultiVectorEncoder(Protocol):
    """A MultiVectorEncoder of monograph, or of sentence-transformers.

    The methods that embed take n texts and return for each its vectors [tokens, d], as arrays or tensors on the CPU;
    ``similarity`` takes the vectors of n and of m texts and returns [n, m].
    """

    def encode_query(self, texts: list[str], /) -> Any:
        """Embed texts as queries."""

    def encode_document(self, texts: list[str], /) -> Any:
        """Embed texts as documents."""

    def similarity(self, first: Any, second: Any, /) -> Any:
        """Compare every query with every document by the model's own function."""


def multi_vector_retrieval_scores(encoder: MultiVectorEncoder, data: BeirFolder) -> dict[str, float]:
    """Return the scores of ``retrieval_scores``, and the mean number of vectors of a query and of a document.

    The latter are "query_vectors" and "corpus_vectors": numbers, not points of 100. The vectors of one block of
    documents are in memory at a time.

    Raises:
        EvaluationError: vectors are not finite.
        InputError: the corpus has changed since ``data`` was read, and is malformed.

    """
    vectors = {"query_vectors": 0, "corpus_vectors": 0}

    def embed_and_count(encode: Callable[[list[str]], Any], texts: list[str]) -> list[NDArray[np.float32]]:
        matrices = _embed(encode, texts)
        side = "query_vectors" if encode == encoder.encode_query else "corpus_vectors"
        vectors[side] += sum(map(len, matrices))
        return matrices

    queries = list(data.queries.values())
    rankings = ranked(encoder, queries, data.documents(), DEPTH, _DOCUMENTS, embed_and_count)
    counts = (len(queries), data.document_count)
    means = {side: total / count for (side, total), count in zip(vectors.items(), counts, strict=True)}
    return ranking_scores(rankings, data) | means


def _embed(encode: Callable[[list[str]], Any], texts: list[str]) -> list[NDArray[np.float32]]:
    """Return the vectors of each text, float32 [tokens, d]; raise ``EvaluationError`` where one is not finite."""
    matrices = [np.asarray(matrix, dtype=np.float32) for matrix in encode(texts)]
    broken = np.flatnonzero([not np.isfinite(matrix).all() for matrix in matrices])
    if len(broken):
        raise not_finite(texts, broken)
    return matrices


def load_torch_multi_vector(folder: Path) -> Any:
    """Load a checkpoint folder in torch on the CPU at float32."""
    return MULTI_VECTOR_EXPORT.load(read_checkpoint(folder)).whole
