"""How a compressed cross-encoder is judged: by how alike it sorts pairs, and by how far each score moves.

Cosines and neighbours say nothing of scores. A score moves as a part of the spread of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from monograph.inputs import Pair
from monograph_export.compression.gate import rank_correlation
from monograph_export.compression.limits import ScoreLimits
from monograph_export.compression.quality_metric import QualityMetric, QualityResult
from monograph_export.output_names import SCORES_NAME
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


@dataclass(frozen=True)
class ScoreQualityMetric(QualityMetric[Pair]):
    """Judges the logits of pairs."""

    limits: ScoreLimits

    feature = SCORES_NAME
    unit = "pairs"
    used = "scored"
    costs = "by what they move scores on average, as a part of their spread"

    def outputs(self, model: CrossEncoder, inputs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return a model's logits of pairs, float32 [n, labels]."""
        return reference_logits(model, inputs, _BATCH_SIZE)

    def metric(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> QualityResult:
        """Compare the logits of the same pairs, float32 [n, labels] each."""
        return self._judged(score_agreement(reference, found).to_json())

    def cost(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
        """Return how far a score moves on average, as a part of the spread."""
        return score_agreement(reference, found).mean_difference


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
