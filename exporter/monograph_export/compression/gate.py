"""The gate: how near a compressed model is to the original on other texts than calibrated it, and must be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, spearmanr
from sentence_transformers import SparseEncoder

from monograph.similarity import similarity, similarity_pairwise
from monograph_export.checkpoint.routes import VectorModel
from monograph_export.checkpoint.token_table import rows_of
from monograph_export.probes import reference_vectors

# A model of int8 layers widens all its weights at every call in torch, so batches save most of the time; padding moves
# a vector by no more than a rounding that goes the other way. What is written is measured anew, in ONNX Runtime.
_BATCH_SIZE = 16
# Texts times words of a vocabulary: 16 texts of 256 tokens and 30,522 words take 500 MB, and as many of 250,002 4 GB.
_BATCH_WORDS = 500_000


@dataclass(frozen=True)
class Agreement:
    """Two models' vectors of the same texts, compared.

    Cosines are those of a text's two vectors. ``spearman`` is the rank correlation of the similarities of all pairs of
    texts, 0 where there is none (all are equal, or there are fewer than three texts); ``neighbour_agreement`` the share
    of texts whose nearest neighbour among the others is the same.
    """

    texts: int
    mean_cosine: float
    percentile_1_cosine: float
    worst_cosine: float
    spearman: float
    neighbour_agreement: float

    def to_json(self) -> dict[str, float]:
        """Return the figures as JSON values."""
        return asdict(self)


def vectors_to_compare(model: VectorModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a model's vectors of texts, float32 [n, d], for ``agreement``."""
    size = _BATCH_SIZE
    if isinstance(model, SparseEncoder):
        # In torch a batch of it has a logit for each of its tokens and each word.
        size = max(1, min(size, _BATCH_WORDS // rows_of(model)))
    return reference_vectors(model, list(texts), size)


def agreement(reference: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Compare the vectors of the same texts, float32 [n, d] each."""
    cosines = cosines_of(reference, found)
    similarities, others = (similarity("cosine", vectors, vectors) for vectors in (reference, found))
    pairs = np.triu_indices(len(cosines), k=1)
    spearman = rank_correlation(similarities[pairs], others[pairs]) if len(cosines) > 2 else 0.0
    np.fill_diagonal(similarities, -np.inf)
    np.fill_diagonal(others, -np.inf)
    return Agreement(
        texts=len(cosines),
        mean_cosine=float(cosines.mean()),
        percentile_1_cosine=float(np.percentile(cosines, 1)),
        worst_cosine=float(cosines.min()),
        spearman=spearman,
        neighbour_agreement=float((similarities.argmax(axis=1) == others.argmax(axis=1)).mean()),
    )


def cosines_of(reference: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each text's two vectors, float32 [n] of [n, d] each.

    Two vectors of zeros, as a sparse encoder has for a text in a language it does not know, are the same: 1.
    """
    same = ~reference.any(axis=1) & ~found.any(axis=1)
    return np.where(same, np.float32(1), similarity_pairwise("cosine", reference, found))


def active_overlap(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the share of dimensions, of those that are not 0 in either vector of a text, that are not 0 in both.

    The vectors are float32 [n, d]; the result is the mean over texts, of which those without an active one count 1.
    """
    either, both = (reference != 0) | (found != 0), (reference != 0) & (found != 0)
    shares = both.sum(axis=1) / np.maximum(either.sum(axis=1), 1)
    return float(np.where(either.any(axis=1), shares, 1.0).mean())


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return Spearman's correlation of values, float32 [n] each, 0 where all of one are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(np.nan_to_num(spearmanr(first, second).statistic))
