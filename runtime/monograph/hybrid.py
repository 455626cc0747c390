"""Dense, sparse and multi-vector embeddings of one pass, as bge-m3 has them, and the scores that they are compared by.

The graph's output ``hybrid_embeddings`` holds all three: see ``hybrid_width``. A text's sparse vector has the largest
weight of each of its token ids.

Source: Chen et al., "BGE M3-Embedding: Multi-Lingual, Multi-Functionality, Multi-Granularity Text Embeddings Through
Self-Knowledge Distillation" (2024), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.maxsim import maxsim, maxsim_pairwise
from monograph.sparse import arrays
from monograph.sparse.rows import SparseRows, SparseVector, join_rows
from monograph.tasks.base import Outputs, scatter_rows
from monograph.tasks.embedding import HybridSection, VectorPostProcess
from monograph.tokenization import TokenizedTexts

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float32]
# Of dense, sparse and multi-vector scores; those of FlagEmbedding.
DEFAULT_WEIGHTS = (1.0, 1.0, 1.0)
_MODES = "dense, sparse and multi_vector"
# By MaxSim, divided by the number of the query's vectors (the paper's equation of s_mul).
_MAXSIM = "meanmaxsim"


@dataclass(frozen=True, eq=False)
class HybridEmbeddings:
    """The three kinds of vectors of n texts.

    Attributes:
        dense: One vector for each text: float32 [n, d].
        sparse: For each text its token ids with their weights, as ``SparseEncoder.encode_active`` returns vectors.
        multi_vector: For each text a vector for each of its tokens but the first: a list of float32 [tokens, c].
        vocabulary_size: Columns of a sparse vector.

    Examples:
        >>> from monograph import Embedder
        >>> texts = Embedder(bundle, device="cpu").encode_all(["one text", "another, longer text"])
        >>> texts.dense.shape[0] == len(texts.sparse) == len(texts.multi_vector) == len(texts) == 2
        True
        >>> texts.sparse_array().shape == (2, texts.vocabulary_size)
        True

    """

    dense: Floats
    sparse: list[SparseVector]
    multi_vector: list[Floats]
    vocabulary_size: int

    def __len__(self) -> int:
        return len(self.dense)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Raise ``InputError``: these are no array, of which functions of vectors would make one of objects."""
        raise InputError(
            "these are HybridEmbeddings, of three kinds of vectors: compare them by hybrid_similarity, or give their "
            "dense, sparse_array() or multi_vector"
        )

    def sparse_array(self) -> csr_array:
        """Return the sparse vectors as ``SparseEncoder.encode`` does: a csr_array float32 [n, vocabulary_size].

        Raises:
            MonographError: SciPy is not installed.

        """
        return arrays.to_csr(_rows(self.sparse), self.vocabulary_size)


@dataclass(frozen=True, eq=False)
class HybridScores:
    """The scores of n queries and m documents by each kind of vector and by weighted means of them: float32 [n, m].

    Of pairs they are float32 [n].

    Attributes:
        dense: The dot product of dense vectors.
        sparse: The sum, over the tokens that both texts have, of the products of their weights.
        multi_vector: The mean, over the query's vectors, of the largest dot product with one of the document.
        dense_sparse: The weighted mean of the first two; 0 if both have the weight 0.
        hybrid: The weighted mean of all three.

    Examples:
        >>> from monograph import Embedder
        >>> model = Embedder(bundle, device="cpu")
        >>> query, documents = model.encode_all("a query"), model.encode_all(["one document", "another"])
        >>> scores = model.hybrid_similarity(query, documents, weights=(1, 0.3, 1))
        >>> scores.hybrid.shape, scores.sparse.shape
        ((1, 2), (1, 2))

    """

    dense: Floats
    sparse: Floats
    multi_vector: Floats
    dense_sparse: Floats
    hybrid: Floats


class TextVectors(NamedTuple):
    """What the graph gives for a text of t tokens: ``dense`` [d], ``weights`` [t], ``multi_vector`` [t - 1, c]."""

    dense: Floats
    weights: Floats
    multi_vector: Floats


@dataclass(frozen=True)
class HybridPostProcess:
    """Take the parts of ``hybrid_embeddings`` apart: objects [n], each the ``TextVectors`` of a text.

    ``dense`` is what follows a dense vector of ``dimension`` values.
    """

    dimension: int
    section: HybridSection
    dense: VectorPostProcess

    def __call__(self, outputs: Outputs) -> NDArray[np.object_]:
        """Turn matrices (objects [n] of float32 [tokens, width]) into the vectors of texts."""
        if not all(map(len, outputs)):
            raise InputError("a text has no tokens, and this model has no output for it: leave it out")
        vectors = self.dense(np.stack([matrix[0, : self.dimension] for matrix in outputs]))
        results = np.empty(len(outputs), dtype=np.object_)
        for position, matrix in enumerate(outputs):
            # The first token has a weight of 0, and its place the text's own vector. Copies, of adjacent values.
            token_vectors = matrix[1:, : self.section.dimension].copy()
            results[position] = TextVectors(vectors[position], matrix[:, -1].copy(), token_vectors)
        return results

    def collect(self, parts: Iterable[tuple[NDArray[np.intp], Outputs]], count: int) -> NDArray[np.object_]:
        """Return the vectors of ``count`` texts in order from parts, each with the positions of its texts."""
        return scatter_rows(parts, (count,), np.object_)

    def take(self, results: NDArray[np.object_], positions: NDArray[np.intp]) -> NDArray[np.object_]:
        """Return the vectors at some positions (intp [n])."""
        return results[positions]

    @property
    def settings(self) -> dict[str, str]:
        """What the vectors depend on beside the texts and the model."""
        return self.dense.settings


def hybrid_embeddings(
    texts: Sequence[TextVectors],
    tokens: TokenizedTexts,
    post_process: HybridPostProcess,
    vocabulary_size: int,
) -> HybridEmbeddings:
    """Return the vectors of texts that the graph gave for some tokens, those of each text once."""
    unweighted = post_process.section.unweighted_ids
    ids = np.split(tokens.ids, tokens.starts[1:-1]) if len(texts) else []
    dense = np.empty((len(texts), post_process.dense.width), dtype=np.float32)
    sparse, multi_vector, seen = list[SparseVector](), list[Floats](), set[int]()
    for position, (text, token_ids) in enumerate(zip(texts, ids, strict=True)):
        dense[position] = text.dense
        sparse.append(largest_weights(token_ids, text.weights, unweighted))
        # Of equal texts each has arrays of its own.
        multi_vector.append(text.multi_vector.copy() if id(text) in seen else text.multi_vector)
        seen.add(id(text))
    return HybridEmbeddings(dense, sparse, multi_vector, vocabulary_size)


def largest_weights(ids: NDArray[np.int64], weights: Floats, unweighted_ids: Sequence[int]) -> SparseVector:
    """Return the largest weight of each token id of a text, of ids int64 [t] and weights float32 [t], if above 0."""
    weighted = (weights > 0) & ~np.isin(ids, unweighted_ids)
    indices, places = np.unique(ids[weighted], return_inverse=True)
    values = np.zeros(len(indices), dtype=np.float32)
    np.maximum.at(values, places, weights[weighted])
    return SparseVector(indices.astype(np.int32), values)


def hybrid_scores(
    queries: HybridEmbeddings, documents: HybridEmbeddings, weights: Sequence[float] = DEFAULT_WEIGHTS
) -> HybridScores:
    """Return the scores of every query with every document, float32 [n, m] each.

    Raises:
        InputError: these are no results of ``encode_all`` of one model, or the weights are not three numbers.

    """
    shares = check_embeddings(queries, documents, weights)
    return _combined(
        queries.dense @ documents.dense.T,
        _sparse_products(queries.sparse, documents.sparse),
        maxsim(_MAXSIM, queries.multi_vector, documents.multi_vector),
        shares,
    )


def hybrid_scores_pairwise(
    queries: HybridEmbeddings, documents: HybridEmbeddings, weights: Sequence[float] = DEFAULT_WEIGHTS
) -> HybridScores:
    """Return the scores of query i with document i, float32 [n] each.

    Raises:
        InputError: as ``hybrid_scores``, or the numbers of queries and documents differ.

    """
    shares = check_embeddings(queries, documents, weights)
    multi_vector = maxsim_pairwise(_MAXSIM, queries.multi_vector, documents.multi_vector)
    pairs = zip(queries.sparse, documents.sparse, strict=True)
    sparse = np.fromiter((_sparse_products([one], [other])[0, 0] for one, other in pairs), np.float32, len(queries))
    return _combined(np.einsum("nd,nd->n", queries.dense, documents.dense), sparse, multi_vector, shares)


def check_embeddings(queries: Any, documents: Any, weights: Any) -> tuple[float, float, float]:
    """Return the weights of dense, sparse and multi-vector scores as numbers.

    Raises:
        InputError: these are no results of ``encode_all`` of one model, or the weights are not three numbers of at
            least 0 with a sum above 0.

    """
    for name, one in (("queries", queries), ("documents", documents)):
        if not isinstance(one, HybridEmbeddings):
            raise InputError(f"{name} must be what encode_all returns, got {type(one).__name__}")
    if queries.dense.shape[1:] != documents.dense.shape[1:] or queries.vocabulary_size != documents.vocabulary_size:
        raise InputError(
            "queries and documents are of different models, or truncated to different lengths: encode both with one "
            "model and one truncate_dim"
        )
    for name, one in (("queries", queries), ("documents", documents)):
        if not len(one.dense) == len(one.sparse) == len(one.multi_vector):
            raise InputError(
                f"the parts of {name} are of different numbers of texts: take them as encode_all returns them"
            )
    try:
        dense, sparse, multi_vector = map(float, () if isinstance(weights, (str, Mapping)) else weights)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights must be three numbers, for {_MODES}, got {weights!r}") from error
    shares = (dense, sparse, multi_vector)
    if not all(math.isfinite(one) and one >= 0 for one in shares) or not sum(shares):
        raise InputError(f"weights must be at least 0, and one of them above, got {weights!r}")
    return shares


def _combined(dense: Floats, sparse: Floats, multi_vector: Floats, weights: tuple[float, float, float]) -> HybridScores:
    # Of weights as they are, of any size; their shares are of float32's.
    of_dense, of_sparse, of_vectors = (np.float32(weight / max(weights)) for weight in weights)
    two = of_dense * dense + of_sparse * sparse
    both = of_dense + of_sparse
    return HybridScores(
        np.asarray(dense, dtype=np.float32),
        sparse,
        multi_vector,
        np.asarray(two / both if both else np.zeros_like(two), dtype=np.float32),
        np.asarray((two + of_vectors * multi_vector) / (both + of_vectors), dtype=np.float32),
    )


def _sparse_products(queries: Sequence[SparseVector], documents: Sequence[SparseVector]) -> Floats:
    """Return the dot products of sparse vectors, float32 [n, m], without SciPy.

    Queries are made dense over the tokens that they have together, which are few.
    """
    scores = np.zeros((len(queries), len(documents)), dtype=np.float32)
    known = np.unique(np.concatenate([np.empty(0, np.int32), *(query.indices for query in queries)]))
    if not len(known):
        return scores
    dense = np.zeros((len(queries), len(known)), dtype=np.float32)
    for row, query in zip(dense, queries, strict=True):
        row[np.searchsorted(known, query.indices)] = query.values
    for position, document in enumerate(documents):
        places = np.minimum(np.searchsorted(known, document.indices), len(known) - 1)
        shared = known[places] == document.indices
        scores[:, position] = dense[:, places[shared]] @ document.values[shared]
    return scores


def _rows(vectors: Sequence[SparseVector]) -> SparseRows:
    parts = [SparseRows(np.array([len(one.indices)], np.int64), one.indices, one.values) for one in vectors]
    return join_rows(parts)
