"""The nearest documents of each query, over a corpus that need not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np

from monograph_bench.evaluation.encoder import Vectors
from monograph_bench.evaluation.encoder import embed as embed_dense

# Documents whose vectors are in memory at a time, and similarities of a block of them with queries: 64 MB of float32.
_DOCUMENTS = 8192
_SIMILARITIES = 1 << 24


class Searcher(Protocol):
    """What embeds queries and documents and compares them, as an Encoder; the rows of its vectors can be sliced."""

    def encode_query(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for queries."""

    def encode_document(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for documents."""

    def similarity(self, first: Any, second: Any, /) -> Any:
        """Compare every vector with every other, [n, m], by the model's own function."""


def ranked(
    encoder: Searcher,
    queries: list[str],
    documents: Iterable[tuple[str, str]],
    depth: int,
    block_size: int = _DOCUMENTS,
    embed: Callable[[Callable[[list[str]], Any], list[str]], Any] = embed_dense,
) -> list[list[str]]:
    """Return for each query the ids of at most ``depth`` documents, the most similar first, by ``similarity``.

    ``documents`` are pairs of id and text. Queries are embedded with ``encode_query``, documents ``block_size`` at a
    time with ``encode_document``, both by way of ``embed``, which checks the vectors. Documents of equal similarity are
    in the order of their ids, so that the result depends neither on the order of the corpus nor on the blocks;
    sentence-transformers breaks ties alike.

    Raises:
        EvaluationError: vectors are not finite.

    """
    query_vectors = embed(encoder.encode_query, queries)
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    for block in _blocks(documents, block_size):
        ids = [document for document, _ in block]
        vectors = embed(encoder.encode_document, [text for _, text in block])
        rows = max(1, _SIMILARITIES // len(ids))
        for start in range(0, len(queries), rows):
            similarities = np.asarray(encoder.similarity(query_vectors[start : start + rows], vectors), np.float32)
            for query, row in enumerate(similarities, start):
                best[query] = _merged(best[query], row, ids, depth)
    return [[document for _, document in found] for found in best]


def _merged(best: list[tuple[float, str]], row: Vectors, ids: Sequence[str], depth: int) -> list[tuple[float, str]]:
    """Return the ``depth`` first, in order, of pairs of negated similarity and id, and of a row of similarities."""
    # All that tie with the last place are candidates; their ids decide.
    least = np.partition(row, -depth)[-depth] if len(row) > depth else -np.inf
    candidates = [(-float(row[place]), ids[place]) for place in np.flatnonzero(row >= least).tolist()]
    return sorted(best + candidates)[:depth]


def _blocks(documents: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    stream = iter(documents)
    while block := list(islice(stream, size)):
        yield block
