"""Similarity functions of vectors, for all pairs and pairwise; and what changes vectors one by one."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np

from monograph import similarity as dense
from monograph import tensors
from monograph.errors import InputError
from monograph.sparse import arrays, torch_tensors

# NumPy arrays, lists, tensors or SciPy's sparse arrays: [n, d], or [d] for one vector.
Vectors = Any
# float32, an array or, where vectors are tensors, a tensor.
Similarities = Any


def cos_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the cosine of each vector of ``a`` [n, d] with each of ``b`` [m, d], float32 [n, m].

    Raises:
        InputError: the shapes do not fit, or these are not vectors.

    Examples:
        >>> from monograph.util import cos_sim
        >>> cos_sim([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]]).tolist()
        [[1.0, 0.0]]

    """
    return _all_pairs("cosine", a, b)


def pytorch_cos_sim(a: Vectors, b: Vectors) -> Similarities:
    """``cos_sim`` by its former name."""
    return cos_sim(a, b)


def dot_score(a: Vectors, b: Vectors) -> Similarities:
    """Return the dot product of each vector of ``a`` [n, d] with each of ``b`` [m, d], float32 [n, m].

    Raises:
        InputError: the shapes do not fit, or these are not vectors.

    """
    return _all_pairs("dot", a, b)


def euclidean_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the negated Euclidean distance of each vector of ``a`` [n, d] to each of ``b`` [m, d], float32 [n, m].

    Raises:
        InputError: the shapes do not fit, or these are not vectors.

    """
    return _all_pairs("euclidean", a, b)


def manhattan_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the negated Manhattan distance of each vector of ``a`` [n, d] to each of ``b`` [m, d], float32 [n, m].

    Raises:
        InputError: the shapes do not fit, or these are not vectors.

    """
    return _all_pairs("manhattan", a, b)


def pairwise_cos_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the cosine of vector i of ``a`` with vector i of ``b``, both [n, d], float32 [n].

    One dense vector, [d] or [1, d], is compared with each of the others; of two vectors [d] the result is one number,
    []. That holds for the other pairwise functions, too.

    Raises:
        InputError: the shapes differ, or these are not vectors.

    """
    return _pairwise("cosine", a, b)


def pairwise_dot_score(a: Vectors, b: Vectors) -> Similarities:
    """Return the dot product of vector i of ``a`` with vector i of ``b``, both [n, d], float32 [n].

    Raises:
        InputError: the shapes differ, or these are not vectors.

    """
    return _pairwise("dot", a, b)


def pairwise_euclidean_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the negated Euclidean distance of vector i of ``a`` to vector i of ``b``, both [n, d], float32 [n].

    Raises:
        InputError: the shapes differ, or these are not vectors.

    """
    return _pairwise("euclidean", a, b)


def pairwise_manhattan_sim(a: Vectors, b: Vectors) -> Similarities:
    """Return the negated Manhattan distance of vector i of ``a`` to vector i of ``b``, both [n, d], float32 [n].

    Raises:
        InputError: the shapes differ, or these are not vectors.

    """
    return _pairwise("manhattan", a, b)


def pairwise_angle_sim(x: Vectors, y: Vectors) -> Similarities:
    """Return the AnglE similarity (arXiv:2309.12871) of vector i of ``x`` to vector i of ``y``, float32 [n].

    Both are dense, [n, d]. The halves of a vector are the real and imaginary parts of d/2 complex numbers; a zero
    follows an odd d.

    Raises:
        InputError: the shapes differ, or these are not dense vectors.

    """
    a, b = (dense.normalize(dense.check_rows(side)) for side in (x, y))
    dense.check_shapes(a, b)
    a, b = (np.pad(side, ((0, 0), (0, side.shape[1] % 2))) for side in (a, b))
    (real_a, imaginary_a), (real_b, imaginary_b) = np.split(a, 2, axis=1), np.split(b, 2, axis=1)
    sines = (imaginary_a * real_b - real_a * imaginary_b).sum(axis=1)
    return tensors.like(np.abs((a * b).sum(axis=1) + sines), x, y)


def normalize_embeddings(embeddings: Vectors) -> Vectors:
    """Return vectors, [n, d] or [d], at unit length; a vector of zeros stays as it is.

    Returns:
        float32 in the shape of ``embeddings``: an array, a csr_array of sparse ones, or a tensor, sparse or dense.

    Raises:
        InputError: these are not vectors.

    """
    if tensors.is_sparse(embeddings):
        rows = arrays.normalize(arrays.check_rows(embeddings))
        return torch_tensors.like(rows[0].tocsr() if arrays.is_one_row(embeddings) else rows, embeddings)
    vectors = dense.check_vectors(embeddings)
    return tensors.like(dense.normalize(dense.check_rows(vectors)).reshape(vectors.shape), embeddings)


def truncate_embeddings(embeddings: Vectors, truncate_dim: int | None) -> Vectors:
    """Return the first ``truncate_dim`` dimensions of vectors [..., d], all for None: a view of an array or tensor."""
    return embeddings[..., :truncate_dim]


class SimilarityFunction(Enum):
    """The similarity functions by name; ``similarity_fn_name`` takes a member as well as its value."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # noqa: PIE796  # sentence-transformers has both names
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[[Vectors, Vectors], Similarities]:
        """Return the function of all pairs, such as ``cos_sim``, of a name or member."""
        return _FUNCTIONS[_member(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(
        similarity_function: str | SimilarityFunction,
    ) -> Callable[[Vectors, Vectors], Similarities]:
        """Return the pairwise function, such as ``pairwise_cos_sim``, of a name or member."""
        return _FUNCTIONS[_member(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """Return the names."""
        return [member.value for member in SimilarityFunction]


_FUNCTIONS = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
}


def _member(function: str | SimilarityFunction) -> SimilarityFunction:
    try:
        return SimilarityFunction(function)
    except ValueError as error:
        known = ", ".join(SimilarityFunction.possible_values())
        raise InputError(f"similarity function {function!r} is not one of {known}") from error


def _all_pairs(function: str, a: Vectors, b: Vectors) -> Similarities:
    return tensors.like(_module_for(a, b).similarity(function, a, b), a, b)


def _pairwise(function: str, a: Vectors, b: Vectors) -> Similarities:
    return tensors.like(_module_for(a, b).similarity_pairwise(function, a, b), a, b)


def _module_for(a: Vectors, b: Vectors) -> ModuleType:
    return arrays if tensors.is_sparse(a) or tensors.is_sparse(b) else dense
