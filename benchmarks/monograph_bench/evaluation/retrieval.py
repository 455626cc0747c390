"""Retrieval: whether the documents that people judged relevant are the nearest to a query."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pytrec_eval

from monograph_bench.evaluation.beir import BeirFolder
from monograph_bench.evaluation.encoder import Encoder
from monograph_bench.evaluation.ranking import ranked

# Documents that are retrieved for a query, the deepest that a measure looks.
DEPTH = 100
# Our names, which are sentence-transformers', and trec_eval's names of what is asked for and of what is answered.
_MEASURES = {
    "ndcg@10": ("ndcg_cut.10", "ndcg_cut_10"),
    "map@100": ("map_cut.100", "map_cut_100"),
    "recall@10": ("recall.10", "recall_10"),
    "recall@100": ("recall.100", "recall_100"),
}


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
    return judged_scores(ranked(encoder, list(data.queries.values()), data.documents(), DEPTH), data)


def judged_scores(found: Sequence[Sequence[str]], data: BeirFolder) -> dict[str, float]:
    """Return the scores of what was found: for each query the ids of documents, the best first."""
    # Places instead of similarities: trec_eval would break ties by ids in descending order.
    run = {
        query: {document: float(len(documents) - place) for place, document in enumerate(documents)}
        for query, documents in zip(data.queries, found, strict=True)
    }
    asked = {name for name, _ in _MEASURES.values()}
    each = pytrec_eval.RelevanceEvaluator(data.relevant, asked).evaluate(run)
    return {
        name: 100 * fmean(scores[answered] for scores in each.values()) for name, (_, answered) in _MEASURES.items()
    }
