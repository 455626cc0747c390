"""How closely the outputs of a compressed model agree with the original's: what several tasks measure alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.maxsim import maxsim
from monograph.tasks.base import OutputPart, as_matrices, text_cosines
from monograph.tasks.embedding import TokenAgreement


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return Spearman's correlation of values, float32 [n] each, 0 where all of one are equal."""
    import warnings

    from scipy.stats import ConstantInputWarning, spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(np.nan_to_num(spearmanr(first, second).statistic))


def maxsim_agreement(reference: NDArray[Any], outputs: NDArray[Any]) -> tuple[float, float]:
    """Compare the MaxSim of every two of some texts, by the vectors of their tokens: objects [n] each.

    Returns the rank correlation of the scores of all pairs, 0 for fewer than three texts, and the share of texts whose
    nearest neighbour is the same.
    """
    scores, others = (maxsim("meanmaxsim", list(matrices), list(matrices)) for matrices in (reference, outputs))
    pairs = ~np.eye(len(scores), dtype=bool)
    spearman = rank_correlation(scores[pairs], others[pairs]) if len(scores) > 2 else 0.0
    np.fill_diagonal(scores, -np.inf)
    np.fill_diagonal(others, -np.inf)
    return spearman, float((scores.argmax(axis=1) == others.argmax(axis=1)).mean())


def token_agreement(reference: OutputPart, outputs: OutputPart) -> TokenAgreement:
    """Compare the vectors, or the weights, of the tokens of the same texts."""
    cosines = token_cosines(reference, outputs)
    neighbours: float | None = None
    if reference.weights:
        weights = (np.concatenate([one.ravel() for one in part.values]) for part in (reference, outputs))
        spearman = rank_correlation(*weights)
    else:
        spearman, neighbours = maxsim_agreement(reference.values, outputs.values)
    return TokenAgreement(
        texts=len(cosines),
        mean_cosine=float(cosines.mean()),
        worst_cosine=float(cosines.min()),
        spearman=spearman,
        neighbour_agreement=neighbours,
    )


def token_cosines(reference: OutputPart, outputs: OutputPart) -> NDArray[np.float64]:
    """Return for each text the mean cosine of its tokens' two vectors, or the cosine of its two lists of weights.

    float64 [n]; -1 where they do not fit. A text without a weight above 0 in either is the same: 1.
    """
    one, other = reference.values, outputs.values
    if not reference.weights:
        return np.nan_to_num(text_cosines(other, one), nan=-1.0)
    one, other = (as_matrices([weights.T for weights in values]) for values in (one, other))
    same = [not first.any() and not second.any() for first, second in zip(one, other, strict=True)]
    return np.where(same, 1.0, np.nan_to_num(text_cosines(other, one), nan=-1.0))
