"""Functions on vectors by the names of ``sentence_transformers.util``, in NumPy: search, mining, clusters and more.

They take NumPy arrays, lists, torch tensors and, where a similarity is computed, SciPy's sparse arrays. Similarities
come back as arrays, or as tensors where vectors were tensors; everything else as Python lists.
"""

from typing import TYPE_CHECKING

from monograph.util import missing
from monograph.util.communities import community_detection
from monograph.util.indexes import semantic_search_faiss, semantic_search_usearch
from monograph.util.paraphrases import paraphrase_mining, paraphrase_mining_embeddings
from monograph.util.quantization import quantize_embeddings
from monograph.util.search import semantic_search
from monograph.util.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    normalize_embeddings,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
    truncate_embeddings,
)

__all__ = [
    "SimilarityFunction",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "information_retrieval",
    "manhattan_sim",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "truncate_embeddings",
]

# A former name in sentence-transformers.
information_retrieval = semantic_search

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise AttributeError(missing.explain(name), name=name)
