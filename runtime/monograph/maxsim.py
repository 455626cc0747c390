"""MaxSim, the similarity of late interaction: for each vector of a query the nearest of a document, summed up.

Queries and documents are matrices [tokens, d] of different length. A block of documents is multiplied with a block of
queries' vectors at a time, so that memory is bounded however many there are.

Source: Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
BERT" (2020), equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.errors import InputError
from monograph.sparse.rows import is_active

# The mean divides by the number of the query's vectors.
MAXSIM_FUNCTIONS = ("maxsim", "meanmaxsim")
Matrix = NDArray[np.float32]
# Values of the product of two blocks: 16 MB. A product with a single longer document has more.
_PRODUCT_VALUES = 4_194_304
# Values of a block of queries' vectors, or of documents': they are joined, which copies them.
_BLOCK_VALUES = 4_194_304
_EXPECTED = "token vectors [tokens, d] of each text, as encode_query and encode_document return them"
# The score of a document without a vector, below those of all others; as in sentence-transformers.
EMPTY_DOCUMENT_SCORE = -1e9


def maxsim(function: str, queries: Sequence[Matrix], documents: Sequence[Matrix]) -> NDArray[np.float32]:
    """Return the MaxSim of n queries with m documents, matrices float32 [tokens, d], as float32 [n, m].

    Raises:
        InputError: the function is not known, or the matrices have different numbers of columns.

    """
    _check(function, [*queries, *documents])
    scores = np.zeros((len(queries), len(documents)), dtype=np.float32)
    if not len(queries) or not len(documents):
        return scores
    width = documents[0].shape[1]
    for of_queries in _blocks(queries, width):
        joined = np.concatenate([queries[place] for place in of_queries])
        room = max(1, _PRODUCT_VALUES // max(1, len(joined)))
        for of_documents in _blocks(documents, width, room):
            block = _scores(joined, [len(queries[place]) for place in of_queries], [documents[d] for d in of_documents])
            scores[of_queries.start : of_queries.stop, of_documents.start : of_documents.stop] = block
    return _finished(function, scores, [len(query) for query in queries], [len(document) for document in documents])


def maxsim_pairwise(function: str, queries: Sequence[Matrix], documents: Sequence[Matrix]) -> NDArray[np.float32]:
    """Return the MaxSim of query i with document i, matrices float32 [tokens, d], as float32 [n].

    Raises:
        InputError: as ``maxsim``, or the numbers of queries and documents differ.

    """
    if len(queries) != len(documents):
        raise InputError(
            f"pairwise similarity needs as many queries as documents, got {len(queries)}, {len(documents)}"
        )
    pairs = (maxsim(function, [query], [document])[0, 0] for query, document in zip(queries, documents, strict=True))
    return np.fromiter(pairs, np.float32, len(queries))


def check_matrices(embeddings: Any, name: str) -> list[NDArray[Any]]:
    """Return the token vectors of texts as a list of arrays [tokens, d], of the type that they have.

    They may be a list of arrays or torch tensors, an array of such, one padded array [n, tokens, d], or the vectors of
    a single text [tokens, d]. ``name`` is what an error calls them.

    Raises:
        InputError: they are something else.

    """
    if is_active(embeddings):
        raise InputError(f"{name} must be {_EXPECTED}, and these are SparseVector: a SparseEncoder compares these")
    if isinstance(embeddings, (list, tuple)) or (isinstance(embeddings, np.ndarray) and embeddings.dtype == np.object_):
        matrices = [np.asarray(tensors.to_array(one)) for one in embeddings]
    else:
        array = np.asarray(tensors.to_array(embeddings))
        # Rows of zeros are padding.
        matrices = [array] if array.ndim == 2 else [rows[rows.any(axis=1)] for rows in array] if array.ndim == 3 else []
        if array.ndim not in (2, 3):
            raise InputError(f"{name} must be {_EXPECTED}, got {type(embeddings).__name__} of {array.ndim} dimensions")
    for position, matrix in enumerate(matrices):
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            raise InputError(
                f"{name}[{position}] must be numbers [tokens, d], got {matrix.dtype} of {matrix.ndim} dimensions: give "
                "what encode_query or encode_document returns"
            )
    return matrices


def _check(function: str, matrices: Sequence[Matrix]) -> None:
    if function not in MAXSIM_FUNCTIONS:
        raise InputError(f"similarity function {function!r} is not one of {', '.join(MAXSIM_FUNCTIONS)}")
    widths = sorted({matrix.shape[1] for matrix in matrices})
    if len(widths) > 1:
        raise InputError(
            f"vectors of {' and '.join(map(str, widths))} dimensions cannot be compared: they are of different models, "
            "or truncated to different lengths"
        )


def _blocks(matrices: Sequence[Matrix], width: int, max_rows: int | None = None) -> Iterator[range]:
    """Yield ranges of matrices that together have few enough rows; one may alone have more."""
    limit = max(1, _BLOCK_VALUES // max(1, width))
    limit = limit if max_rows is None else min(limit, max_rows)
    start = rows = 0
    for place, matrix in enumerate(matrices):
        if place > start and rows + len(matrix) > limit:
            yield range(start, place)
            start, rows = place, 0
        rows += len(matrix)
    yield range(start, len(matrices))


def _scores(queries: Matrix, query_lengths: Sequence[int], documents: Sequence[Matrix]) -> Matrix:
    """Return the scores of a block of queries, whose vectors are joined, with a block of documents, float32 [n, m]."""
    lengths = np.array([len(document) for document in documents])
    best = np.full((len(queries), len(documents)), EMPTY_DOCUMENT_SCORE, dtype=np.float32)
    # Without empty ones, of which reduceat would take the row that follows.
    filled = np.flatnonzero(lengths)
    if len(filled) and len(queries):
        products = queries @ np.concatenate([documents[place] for place in filled.tolist()]).T
        starts = np.concatenate(([0], np.cumsum(lengths[filled])[:-1]))
        best[:, filled] = np.maximum.reduceat(products, starts, axis=1)
    scores = np.zeros((len(query_lengths), len(documents)), dtype=np.float32)
    counts = np.array(query_lengths)
    queried = np.flatnonzero(counts)
    if len(queried):
        scores[queried] = np.add.reduceat(best, np.concatenate(([0], np.cumsum(counts[queried])[:-1])), axis=0)
    return scores


def _finished(
    function: str, scores: Matrix, query_lengths: Sequence[int], document_lengths: Sequence[int]
) -> NDArray[np.float32]:
    empty = np.array(document_lengths) == 0
    scores[:, empty] = EMPTY_DOCUMENT_SCORE
    if function == "meanmaxsim":
        scores /= np.maximum(np.array(query_lengths, dtype=np.float32), 1)[:, np.newaxis]
    return scores
