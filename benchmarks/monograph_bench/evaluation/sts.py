"""Semantic textual similarity: whether similarities order pairs of sentences as people do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr

from monograph.similarity import similarity_pairwise
from monograph_bench.evaluation.encoder import Encoder, EvaluationError, embed


@dataclass(frozen=True)
class StsPairs:
    """Pairs of sentences, at least two, and people's score of each pair; not all scores are equal."""

    first: list[str]
    second: list[str]
    gold: list[float]


def sts_scores(encoder: Encoder, pairs: StsPairs, functions: Sequence[str]) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation of similarities with the gold scores, in points of 100.

    ``functions`` are names of ``monograph.similarity``; the keys are "pearson_cosine", "spearman_cosine" and so on, as
    sentence-transformers' EmbeddingSimilarityEvaluator names them. Both sides are embedded with ``encode``. The
    formulas are scipy's; tied values have the mean of their ranks.

    Raises:
        EvaluationError: vectors are not finite, or all pairs are equally similar, so that nothing correlates.

    """
    first, second = embed(encoder.encode, pairs.first), embed(encoder.encode, pairs.second)
    scores = {}
    for function in functions:
        similarities = similarity_pairwise(function, first, second)
        if np.ptp(similarities) == 0:
            raise EvaluationError(
                f"all {len(pairs.gold)} pairs have the same {function} similarity, {similarities[0]:.4f}, which "
                "correlates with nothing: run `monograph verify` on the bundle"
            )
        scores[f"pearson_{function}"] = 100 * float(pearsonr(pairs.gold, similarities).statistic)
        scores[f"spearman_{function}"] = 100 * float(spearmanr(pairs.gold, similarities).statistic)
    return scores
