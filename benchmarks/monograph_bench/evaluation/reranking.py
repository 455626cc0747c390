"""Reranking: whether a cross-encoder puts the documents that are relevant to a query first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import Pair
from monograph_bench.evaluation.encoder import EvaluationError

# Places that MRR and nDCG look at.
_DEPTH = 10
_METRICS = ("map", f"mrr@{_DEPTH}", f"ndcg@{_DEPTH}")

Figures = tuple[float, float, float]


class PairScorer(Protocol):
    """A CrossEncoder, of monograph or of sentence-transformers."""

    def predict(self, pairs: list[Pair], /) -> Any:
        """Score n pairs, behind the model's default prompt if it has one: float [n], or [n, labels]."""


@dataclass(frozen=True)
class RerankQuery:
    """A query, its documents, and which of them are relevant, in the same order.

    ``before`` says the same of the documents in the order in which another system found them, None where that is not
    known. Of a query without a relevant document every score is 0.
    """

    text: str
    documents: list[str]
    relevant: list[bool]
    before: list[bool] | None


def rerank_scores(scorer: PairScorer, queries: Sequence[RerankQuery]) -> dict[str, float]:
    """Return MAP, MRR@10 and nDCG@10 of the documents by their scores, means over the queries, in points of 100.

    Names and definitions are those of sentence-transformers' CrossEncoderRerankingEvaluator: in MAP and nDCG@10
    documents of equal score share their places, in MRR@10 they have the order in which NumPy sorts them. Where queries
    say how their documents were found, "base_map" and so on are the scores of that order, means over those queries.

    Raises:
        EvaluationError: the model gives more than one score a pair, or scores that are not finite.

    """
    judged = [query for query in queries if any(query.relevant)]
    scores = _predicted(scorer, [(query.text, document) for query in judged for document in query.documents])
    ends = np.cumsum([len(query.documents) for query in judged])[:-1]
    # The others have only zeros.
    figures = [_figures(query.relevant, own) for query, own in zip(judged, np.split(scores, ends), strict=True)]
    found = _means("", figures, len(queries))
    base = [_figures_of_order(query.before) for query in queries if query.before is not None]
    return found | (_means("base_", base, len(base)) if base else {})


def _predicted(scorer: PairScorer, pairs: list[Pair]) -> NDArray[np.float32]:
    """Return the score of each pair, float32 [n]."""
    scores = np.asarray(scorer.predict(pairs), dtype=np.float32)
    if scores.ndim != 1:
        raise EvaluationError(
            f"the model gives {scores.shape[1]} scores a pair, one a class: --rerank needs a model with one label"
        )
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        raise EvaluationError(
            f"{len(broken)} of {len(pairs)} scores are not finite, that of {pairs[broken[0]][1][:60]!r} for one: run "
            "`monograph verify` on the bundle"
        )
    return scores


def _means(prefix: str, figures: Iterable[Figures], queries: int) -> dict[str, float]:
    columns = zip(*figures, strict=True)
    return {prefix + name: 100 * sum(values) / queries for name, values in zip(_METRICS, columns, strict=True)}


def _figures_of_order(relevant: Sequence[bool]) -> Figures:
    """Return the figures of documents in the order that they have."""
    if not any(relevant):
        return 0.0, 0.0, 0.0
    return _figures(relevant, np.arange(len(relevant), 0, -1, dtype=np.float32))


def _figures(relevant: Sequence[bool], scores: NDArray[np.float32]) -> Figures:
    """Return average precision, reciprocal rank and nDCG of documents, of which at least one is relevant."""
    flags = np.array(relevant, dtype=np.float64)
    # Groups of equal score, the highest first: how many documents each has, and how many of them are relevant.
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.zeros(len(sizes))
    np.add.at(hits, group, flags)
    return _average_precision(sizes, hits), _reciprocal_rank(flags, scores), _ndcg(sizes, hits)


def _average_precision(sizes: NDArray[np.intp], hits: NDArray[np.float64]) -> float:
    return float((hits / hits.sum() * hits.cumsum() / sizes.cumsum()).sum())


def _reciprocal_rank(flags: NDArray[np.float64], scores: NDArray[np.float32]) -> float:
    first = np.flatnonzero(flags[np.argsort(scores)[::-1][:_DEPTH]])
    return 1 / (1 + int(first[0])) if len(first) else 0.0


def _ndcg(sizes: NDArray[np.intp], hits: NDArray[np.float64]) -> float:
    """Return nDCG with each document's gain the mean of those of its score."""
    count = int(sizes.sum())
    discounts = 1 / np.log2(np.arange(count) + 2)
    discounts[_DEPTH:] = 0
    of_groups = np.add.reduceat(discounts, sizes.cumsum() - sizes)
    ideal = discounts[: round(hits.sum())].sum()
    return float((hits / sizes * of_groups).sum() / ideal)
