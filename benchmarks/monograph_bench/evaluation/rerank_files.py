"""Read queries with relevant and other documents: the samples of sentence-transformers' reranking evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monograph.errors import InputError
from monograph_bench.evaluation.records import json_records, text_field, texts_field
from monograph_bench.evaluation.reranking import RerankQuery

_LAYOUT = 'write {"query": text, "positive": [texts], "negative": [texts]}, or "documents" in place of "negative"'
# Of one document there is no order; scikit-learn, which the evaluator asks, refuses it as well.
_FEWEST_DOCUMENTS = 2


def read_rerank(file: Path) -> list[RerankQuery]:
    """Read JSON lines, a record a query, with at least one relevant document among all of them.

    A record has "query", "positive", which is a list of relevant texts or one text, and either "negative", a list of
    texts that are not relevant, or "documents", a list in the order in which another system found them. Of
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
        found = _with_negatives(query, positive, texts_field(record, "negative", where))
    else:
        documents = texts_field(record, "documents", where)
        if not documents:
            raise InputError(f'{where} has no text in "documents": give at least one, or "negative" instead')
        found = _of_documents(query, positive, documents)
    if positive and len(found.documents) < _FEWEST_DOCUMENTS:
        raise InputError(f"{where} has one document, and no order of one is better: add another, or remove the line")
    return found


def _with_negatives(query: str, positive: list[str], negative: list[str]) -> RerankQuery:
    return RerankQuery(query, positive + negative, [True] * len(positive) + [False] * len(negative), None)


def _of_documents(query: str, positive: list[str], documents: list[str]) -> RerankQuery:
    wanted = set(positive)
    others = [document for document in documents if document not in wanted]
    before = [document in wanted for document in documents]
    if any(before):
        # Positives that were not found come behind all that were, as in the evaluator.
        before += [True] * (len(positive) - sum(before))
    return RerankQuery(query, positive + others, [True] * len(positive) + [False] * len(others), before)
