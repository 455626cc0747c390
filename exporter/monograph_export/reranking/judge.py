"""How a compressed cross-encoder is judged: by how alike it sorts pairs, and by how far each score moves.

Cosines and neighbours say nothing of scores. A score moves as a part of the spread of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from monograph.inputs import Pair
from monograph_export.compression.gate import rank_correlation
from monograph_export.compression.judge import Judge, Judgement
from monograph_export.compression.options import ScoreLimits
from monograph_export.graph.names import SCORES_NAME
from monograph_export.reranking.probes import reference_logits

# As for texts: a model of int8 layers widens all its weights at every call in torch, and batches save most of the time.
_BATCH_SIZE = 16


@dataclass(frozen=True)
class ScoreAgreement:
    """Two models' logits of the same pairs, compared; of several labels the worst counts.

    ``spearman`` is the rank correlation of the logits, 0 where there is none. The differences are absolute ones as
    parts of the spread, which is the largest of the original's logits less the smallest.
    """

    pairs: int
    spearman: float
    mean_difference: float
    worst_difference: float

    def to_json(self) -> dict[str, float]:
        """Return the figures as JSON values."""
        return asdict(self)


class ScoreJudge(Judge[Pair]):
    """Judges the logits of pairs."""

    feature = SCORES_NAME
    unit = "pairs"
    used = "scored"
    costs = "by what they move scores on average, as a part of their spread"

    def __init__(self, limits: ScoreLimits) -> None:
        self._limits = limits

    def outputs(self, model: CrossEncoder, inputs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return a model's logits of pairs, float32 [n, labels]."""
        return reference_logits(model, inputs, _BATCH_SIZE)

    def judge(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> Judgement:
        """Compare the logits of the same pairs, float32 [n, labels] each."""
        measured = score_agreement(reference, found)
        return Judgement(measured.to_json(), tuple(broken_score_limits(self._limits, measured)))

    def cost(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
        """Return how far a score moves on average, as a part of the spread."""
        return score_agreement(reference, found).mean_difference

    def tightened(self, share: float) -> Self:
        """Return a judge that allows only a share of the loss that this one allows."""
        return type(self)(self._limits.tightened(share))

    def limits_to_json(self) -> dict[str, float]:
        """Return the limits as JSON values."""
        return asdict(self._limits)


def score_agreement(reference: NDArray[np.float32], found: NDArray[np.float32]) -> ScoreAgreement:
    """Compare the logits of the same pairs, float32 [n, labels] each."""
    spread = np.maximum(np.ptp(reference, axis=0), np.finfo(np.float32).tiny)
    moved = np.abs(found - reference) / spread
    return ScoreAgreement(
        pairs=len(reference),
        spearman=min(rank_correlation(*columns) for columns in zip(reference.T, found.T, strict=True)),
        mean_difference=float(moved.mean(axis=0).max()),
        worst_difference=float(moved.max()),
    )


def broken_score_limits(limits: ScoreLimits, found: ScoreAgreement) -> list[str]:
    """Return what is beyond its limit, in words; nothing where all hold. NaN does not hold."""
    broken: list[str] = []
    if not found.spearman >= limits.spearman:
        broken.append(f"rank correlation {found.spearman:.4f} is below {limits.spearman}")
    if not found.worst_difference <= limits.worst_difference:
        broken.append(
            f"a score moves by {found.worst_difference:.2%} of the spread, above {limits.worst_difference:.2%}"
        )
    return broken
