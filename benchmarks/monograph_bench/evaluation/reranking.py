"""Reranking: queries with relevant and other documents, and whether a cross-encoder puts the relevant ones first.

The files are the samples of sentence-transformers' reranking evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inputs import Pair
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.records import json_records, text_field, texts_field

_LAYOUT = 'write {"query": text, "positive": [texts], "negative": [texts]}, or "documents" in place of "negative"'
# Of one document there is no order; scikit-learn, which the evaluator calls, refuses it as well.
_MIN_DOCUMENTS = 2
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

    ``before`` says the same of the documents in the order of another system, None where that is not
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
    have the order of another system, "base_map" and so on are the scores of that order, means over those queries.

    Raises:
        EvaluationError: the model gives more than one score a pair, or scores that are not finite.

    """
    answered = [query for query in queries if any(query.relevant)]
    scores = _predicted(scorer, [(query.text, document) for query in answered for document in query.documents])
    ends = np.cumsum([len(query.documents) for query in answered])[:-1]
    # The others have only zeros.
    figures = [_figures(query.relevant, own) for query, own in zip(answered, np.split(scores, ends), strict=True)]
    means = _means("", figures, len(queries))
    base = [_figures_of_order(query.before) for query in queries if query.before is not None]
    return means | (_means("base_", base, len(base)) if base else {})


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


def read_rerank(file: Path) -> list[RerankQuery]:
    """Read JSON lines, a record a query, with at least one relevant document among all of them.

    A record has "query", "positive", which is a list of relevant texts or one text, and either "negative", a list of
    texts that are not relevant, or "documents", a list in the order of another system. Of
    "documents" those that read like a positive are relevant, and positives that are missing there are added.

    Raises:
        InputError: naming file and line that do not fit, or why the records as a whole allow no score.
        OSError: the file cannot be read.

    """
    queries = [_query(record, f"{file} line {number}") for number, record in json_records(file)]
    if not queries:
        raise InputError(f"{file} is empty: {_LAYOUT}, a record a line")
    if not any(any(query.relevant) for query in queries):
        raise InputError(f'{file} has no text in any "positive": there is nothing to be ranked first, add some')
    return queries


def _query(record: dict[str, Any], where: str) -> RerankQuery:
    query = text_field(record, "query", where)
    if isinstance(record.get("positive"), str):
        positive = [text_field(record, "positive", where)]
    else:
        positive = texts_field(record, "positive", where)
    if ("negative" in record) == ("documents" in record):
        which = "both" if "negative" in record else "neither"
        raise InputError(f'{where} has {which} of "negative" and "documents": {_LAYOUT}')
    if "negative" in record:
        ranking = _with_negatives(query, positive, texts_field(record, "negative", where))
    else:
        documents = texts_field(record, "documents", where)
        if not documents:
            raise InputError(f'{where} has no text in "documents": give at least one, or "negative" instead')
        ranking = _of_documents(query, positive, documents)
    if positive and len(ranking.documents) < _MIN_DOCUMENTS:
        raise InputError(f"{where} has one document, and no order of one is better: add another, or remove the line")
    return ranking


def _with_negatives(query: str, positive: list[str], negative: list[str]) -> RerankQuery:
    return RerankQuery(query, positive + negative, [True] * len(positive) + [False] * len(negative), None)


def _of_documents(query: str, positive: list[str], documents: list[str]) -> RerankQuery:
    relevant = set(positive)
    others = [document for document in documents if document not in relevant]
    before = [document in relevant for document in documents]
    if any(before):
        # Positives that are missing come behind all others, as in the evaluator.
        before += [True] * (len(positive) - sum(before))
    return RerankQuery(query, positive + others, [True] * len(positive) + [False] * len(others), before)
