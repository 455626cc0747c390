"""Exact search of vectors among others, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.inputs import check_count
from monograph.similarity import check_dimensions, check_vectors, normalize
from monograph.sparse.arrays import check_rows
from monograph.util.similarity import Similarities, Vectors, cos_sim

ScoreFunction = Callable[[Any, Any], Similarities]
Floats = NDArray[np.float32]
# Scores are searched by the maxima of blocks of columns where there are many more blocks than hits.
_BLOCK = 64
_MIN_BLOCKS_PER_HIT = 4
# What a search needs beside the scores, and at most that for one score.
_CHUNK_BYTES = 32 * 1024 * 1024
_BYTES_PER_SCORE = 16


class SearchHit(TypedDict):
    """A vector that was found: its position in the corpus, and its score."""

    corpus_id: int
    score: float


def semantic_search(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
) -> list[list[SearchHit]]:
    """Find the vectors of a corpus with the highest scores for each query.

    Args:
        query_embeddings: Vectors [n, d], or one [d]: an array, a list, a tensor or SciPy's sparse array.
        corpus_embeddings: Vectors [m, d], likewise.
        query_chunk_size: Queries that are compared at a time.
        corpus_chunk_size: Vectors of the corpus that are compared at a time; both bound the memory.
        top_k: The maximum number of hits for a query.
        score_function: Gives the scores [k, l] of blocks [k, d] and [l, d]; the default is the cosine.

    Returns:
        For each query its hits, the highest score first; of equal scores, the earlier vector first.

    Raises:
        InputError: an argument is not valid, or the shapes do not fit.

    Examples:
        >>> from monograph.util import semantic_search
        >>> semantic_search([1.0, 0.0], [[0.0, 1.0], [2.0, 0.0]], top_k=1)
        [[{'corpus_id': 1, 'score': 1.0}]]

    """
    limit = check_count(top_k, "top_k")
    query_size = check_count(query_chunk_size, "query_chunk_size")
    corpus_size = check_count(corpus_chunk_size, "corpus_chunk_size")
    queries, corpus = to_rows(query_embeddings), to_rows(corpus_embeddings)
    count = queries.shape[0]
    if count and corpus.shape[0]:
        check_dimensions(queries, corpus)
    scores = np.empty((count, 0), np.float32)
    positions = np.empty((count, 0), np.intp)
    for start in range(0, corpus.shape[0], corpus_size):
        score_block = scorer(corpus[start : start + corpus_size], score_function)
        best = [
            top_columns(score_block(queries[first : first + query_size]), limit)
            for first in range(0, count, query_size)
        ]
        if not best:
            continue
        columns = np.concatenate([positions, start + np.concatenate([columns for columns, _ in best])], axis=1)
        values = np.concatenate([scores, np.concatenate([values for _, values in best])], axis=1)
        places, scores = top_columns(values, limit)
        positions = np.take_along_axis(columns, places, axis=1)
    return [
        [{"corpus_id": position, "score": score} for position, score in zip(row, values, strict=True)]
        for row, values in zip(positions.tolist(), scores.tolist(), strict=True)
    ]


def to_rows(vectors: Vectors) -> Any:
    """Return vectors as rows [n, d] that can be cut in blocks: a csr_array of sparse ones, else an array or a tensor.

    Raises:
        InputError: these are not vectors.

    """
    if tensors.is_sparse(vectors):
        return check_rows(vectors)
    if tensors.is_tensor(vectors):
        # Not as an array: a score function of the caller's may be one of tensors. One row has what is checked.
        check_vectors(vectors[:1] if vectors.ndim else vectors)
        rows = vectors
    else:
        rows = check_vectors(vectors)
    # An empty list is no vector of no dimension.
    return rows if rows.ndim == 2 else rows[None, :][: rows.shape[0]]


def scorer(corpus: Any, score_function: ScoreFunction) -> Callable[[Any], Floats]:
    """Return what gives the scores, float32 [k, l], of queries [k, d] and a block of the corpus [l, d].

    For the cosine the block is normalized once and not for each block of queries.
    """
    if score_function is not cos_sim or tensors.is_sparse(corpus):
        return lambda queries: np.asarray(tensors.to_array(score_function(queries, corpus)), np.float32)
    unit = normalize(np.asarray(tensors.to_array(corpus), np.float32)).T

    def cosines(queries: Any) -> Floats:
        if tensors.is_sparse(queries):
            return np.asarray(cos_sim(queries, corpus), np.float32)
        return normalize(np.asarray(tensors.to_array(queries), np.float32)) @ unit

    return cosines


def top_columns(scores: Floats, limit: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the columns of the highest scores of each row [n, m], and these, both [n, min(limit, m)], descending.

    Of equal scores the lower column comes first; NaN comes last.
    """
    count = min(limit, scores.shape[1])
    columns = np.empty((len(scores), count), np.intp)
    rows = max(1, _CHUNK_BYTES // (_BYTES_PER_SCORE * max(1, scores.shape[1])))
    for start in range(0, len(scores), rows):
        columns[start : start + rows] = _highest(scores[start : start + rows], count)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _highest(scores: Floats, count: int) -> NDArray[np.intp]:
    """Return the columns of the ``count`` highest scores of each row [n, m], in ascending order."""
    if scores.shape[1] < _MIN_BLOCKS_PER_HIT * _BLOCK * count:
        return _select(scores, count)
    # Only the blocks with the highest maxima can hold them: of equal ones the first, as each has a score to return.
    whole = scores.shape[1] // _BLOCK * _BLOCK
    maxima = np.fmax.reduce(scores[:, :whole].reshape(len(scores), -1, _BLOCK), axis=2)
    columns = (_select(maxima, count)[:, :, np.newaxis] * _BLOCK + np.arange(_BLOCK)).reshape(len(scores), -1)
    rest = np.broadcast_to(np.arange(whole, scores.shape[1]), (len(scores), scores.shape[1] - whole))
    columns = np.concatenate([columns, rest], axis=1)
    return np.take_along_axis(columns, _select(np.take_along_axis(scores, columns, axis=1), count), axis=1)


def _select(scores: Floats, count: int) -> NDArray[np.intp]:
    """``_highest`` by comparing each score with the lowest that is returned."""
    size = scores.shape[1]
    if count == size:
        return np.broadcast_to(np.arange(size), scores.shape)
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    lowest = np.partition(scores, size - count, axis=1)[:, size - count, np.newaxis]
    above, equal = scores > lowest, scores == lowest
    missing = count - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= missing))
    return np.nonzero(chosen)[1].reshape(len(scores), count)
