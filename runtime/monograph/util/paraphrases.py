"""The most similar pairs among texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import Texts, check_count
from monograph.util.search import Floats, ScoreFunction, scorer, to_rows, top_columns
from monograph.util.similarity import Vectors, cos_sim

if TYPE_CHECKING:
    from monograph.embedder import Embedder


def paraphrase_mining(
    model: Embedder,
    sentences: Texts,
    show_progress_bar: bool | None = False,
    batch_size: int | None = None,
    query_chunk_size: int = 5_000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Embed texts and return their most similar pairs.

    ``sentences``, ``show_progress_bar``, ``batch_size``, ``truncate_dim``, ``prompt_name`` and ``prompt`` are those of
    ``Embedder.encode``, the other arguments and the result those of ``paraphrase_mining_embeddings``.

    Raises:
        InputError: an argument is not valid.

    """
    vectors = model.encode(sentences, prompt_name, prompt, batch_size, show_progress_bar, truncate_dim=truncate_dim)
    return paraphrase_mining_embeddings(vectors, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function)


def paraphrase_mining_embeddings(
    embeddings: Vectors,
    query_chunk_size: int = 5_000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[float | int]]:
    """Return the pairs of vectors with the highest scores, each pair once.

    Args:
        embeddings: Vectors [n, d].
        query_chunk_size: Vectors that are compared with others at a time.
        corpus_chunk_size: How many others; both bound the memory.
        max_pairs: The maximum number of pairs.
        top_k: The number of neighbours that are considered for each vector.
        score_function: A symmetric function that gives the scores [k, l] of blocks [k, d] and [l, d].

    Returns:
        [score, i, j] with i < j for each pair, the highest score first.

    Raises:
        InputError: an argument is not valid, or these are not vectors.

    Examples:
        >>> from monograph.util import paraphrase_mining_embeddings
        >>> paraphrase_mining_embeddings([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], max_pairs=1)
        [[1.0, 0, 2]]

    """
    size = check_count(query_chunk_size, "query_chunk_size")
    corpus_size = check_count(corpus_chunk_size, "corpus_chunk_size")
    limit, neighbours = check_count(max_pairs, "max_pairs"), check_count(top_k, "top_k")
    rows = to_rows(embeddings)
    count = int(rows.shape[0])
    scores, pairs = np.empty(0, np.float32), np.empty(0, np.int64)
    for start in range(0, count, size):
        columns, values = _neighbours(rows, slice(start, start + size), corpus_size, neighbours + 1, score_function)
        found, found_scores = _others(columns, values, start, neighbours)
        # One number for both directions of a pair; the first that is seen counts.
        pairs = np.concatenate([pairs, found.min(axis=1) * count + found.max(axis=1)])
        scores = np.concatenate([scores, found_scores])
        pairs, first = np.unique(pairs, return_index=True)
        order = np.argsort(-scores[first], kind="stable")[:limit]
        pairs, scores = pairs[order], scores[first][order]
    return [[score, *divmod(pair, count)] for score, pair in zip(scores.tolist(), pairs.tolist(), strict=True)]


def _neighbours(
    rows: Any, queries: slice, corpus_size: int, limit: int, score_function: ScoreFunction
) -> tuple[NDArray[np.intp], Floats]:
    """Return the positions and scores of each query's nearest rows, itself among them, [k, limit] both."""
    best: list[tuple[NDArray[np.intp], Floats]] = []
    for start in range(0, rows.shape[0], corpus_size):
        scores = scorer(rows[start : start + corpus_size], score_function)(rows[queries])
        columns, values = top_columns(scores, limit)
        best.append((columns + start, values))
        if len(best) > 1:
            # Two at a time: memory is bounded by the limit, not by the number of blocks.
            columns, values = (np.concatenate(parts, axis=1) for parts in zip(*best, strict=True))
            places, values = top_columns(values, limit)
            best = [(np.take_along_axis(columns, places, axis=1), values)]
    return best[0]


def _others(columns: NDArray[np.intp], values: Floats, start: int, limit: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the pairs (int64 [k, 2]) of queries and their ``limit`` nearest other rows, and the scores [k]."""
    queries = np.arange(start, start + len(columns))[:, np.newaxis]
    other = columns != queries
    # Among one more than is needed the query itself may be missing.
    other &= np.cumsum(other, axis=1) <= limit
    row, column = np.nonzero(other)
    return np.stack([row + start, columns[row, column]], axis=1).astype(np.int64), values[row, column]
