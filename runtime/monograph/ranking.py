"""Rank documents by a score for a query: what models that do so have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict

from monograph.errors import InputError
from monograph.inputs import check_named, check_texts


class RankedDocument(TypedDict):
    """A ranked document: its position in ``documents``, its score and, with ``return_documents``, its text."""

    corpus_id: int
    score: float
    text: NotRequired[str]


def check_query_and_documents(query: object, documents: object) -> tuple[str, list[str]]:
    """Return a query and documents as they are to be given to a model.

    Raises:
        InputError: the query is not one str, or the documents are no list of str.

    """
    if isinstance(documents, str):
        raise InputError("documents must be a list of str, got one str: put it in a list, [document]")
    if isinstance(query, (list, tuple)):
        raise InputError(f"query must be one str, got a {type(query).__name__}: rank for one query at a time")
    return check_named(query, "query"), check_texts(documents, "document")


def rank_documents(
    scores: Sequence[float], documents: Sequence[str], top_k: int | None, *, with_texts: bool
) -> list[RankedDocument]:
    """Return the best documents, at most ``top_k``, highest score first; equal scores keep the documents' order."""
    order: Iterable[int] = sorted(range(len(documents)), key=scores.__getitem__, reverse=True)[:top_k]
    if with_texts:
        return [{"corpus_id": i, "score": scores[i], "text": documents[i]} for i in order]
    return [{"corpus_id": i, "score": scores[i]} for i in order]
