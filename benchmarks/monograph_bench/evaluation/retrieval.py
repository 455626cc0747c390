"""Retrieval: whether the documents that people judged relevant are the nearest to a query.

The corpus need not fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import pytrec_eval

from monograph_bench.evaluation.beir import BeirFolder
from monograph_bench.evaluation.encoder import Encoder, Vectors
from monograph_bench.evaluation.encoder import embed as embed_dense

# Documents whose vectors are in memory at a time, and similarities of a block of them with queries: 64 MB of float32.
_DOCUMENTS = 8192
_SIMILARITIES = 1 << 24
# Documents that are retrieved for a query, the deepest that a measure looks.
DEPTH = 100
# Our names, which are sentence-transformers', and trec_eval's names in a request and in a result.
_MEASURES = {
    "ndcg@10": ("ndcg_cut.10", "ndcg_cut_10"),
    "map@100": ("map_cut.100", "map_cut_100"),
    "recall@10": ("recall.10", "recall_10"),
    "recall@100": ("recall.100", "recall_100"),
}


class Searcher(Protocol):
    """What embeds queries and documents and compares them, as an Encoder; the rows of its vectors can be sliced."""

    def encode_query(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for queries."""

    def encode_document(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for documents."""

    def similarity(self, first: Any, second: Any, /) -> Any:
        """Compare every vector with every other, [n, m], by the model's own function."""


def retrieval_scores(encoder: Encoder, data: BeirFolder) -> dict[str, float]:
    """Return nDCG@10, MAP@100, Recall@10 and Recall@100, means over the queries, in points of 100.

    The formulas are trec_eval's, computed by it: nDCG@10 takes the judgement itself as gain and log2(rank + 1) as
    discount; MAP@100 divides by the number of all relevant documents. Sentence-transformers'
    InformationRetrievalEvaluator differs in two points: its nDCG knows only relevant and not relevant, and its MAP@100
    divides by 100 where a query has more relevant documents than that. A document whose id equals the query's is
    ranked like the others, as there; BEIR's own evaluation leaves it out.

    Raises:
        EvaluationError: vectors are not finite.
        InputError: the corpus has changed since ``data`` was read, and is malformed.

    """
    return ranking_scores(ranked(encoder, list(data.queries.values()), data.documents(), DEPTH), data)


def ranking_scores(rankings: Sequence[Sequence[str]], data: BeirFolder) -> dict[str, float]:
    """Return the scores of rankings: for each query the ids of documents, the best first."""
    # Places instead of similarities: trec_eval would break ties by ids in descending order.
    run = {
        query: {document: float(len(documents) - place) for place, document in enumerate(documents)}
        for query, documents in zip(data.queries, rankings, strict=True)
    }
    measures = {name for name, _ in _MEASURES.values()}
    each = pytrec_eval.RelevanceEvaluator(data.relevant, measures).evaluate(run)
    return {name: 100 * fmean(scores[key] for scores in each.values()) for name, (_, key) in _MEASURES.items()}


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
    return [[document for _, document in ranking] for ranking in best]


def _merged(best: list[tuple[float, str]], row: Vectors, ids: Sequence[str], depth: int) -> list[tuple[float, str]]:
    """Return the ``depth`` first, in order, of pairs of negated similarity and id, and of a row of similarities."""
    # All that tie with the last place are candidates; their ids decide.
    threshold = np.partition(row, -depth)[-depth] if len(row) > depth else -np.inf
    candidates = [(-float(row[place]), ids[place]) for place in np.flatnonzero(row >= threshold).tolist()]
    return sorted(best + candidates)[:depth]


def _blocks(documents: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    stream = iter(documents)
    while block := list(islice(stream, size)):
        yield block
