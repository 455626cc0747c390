"""How a compressed model is judged: what it gives for inputs, compared with the original, and the limits of that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Self

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.base.model import BaseModel

from monograph.inputs import InputT
from monograph_export.compression.gate import active_overlap, agreement, cosines_of, vectors_to_compare
from monograph_export.compression.limits import Limits, SparseLimits, VectorLimits
from monograph_export.output_names import OUTPUT_NAME


@dataclass(frozen=True)
class QualityResult:
    """Figures of how near a model is to the original, as JSON values, and the limits that they break, in words."""

    figures: dict[str, float]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class QualityMetric(ABC, Generic[InputT]):
    """Compares models' outputs, float32 [n, width], for texts or for pairs.

    It holds no model: what was compressed is judged again when the model is gone and an engine runs its graph.
    """

    limits: Limits

    # The feature that the modules of a model leave its output in.
    feature: ClassVar[str]
    # What outputs are of, in words, what is done with that, and what ``cost`` measures.
    unit: ClassVar[str]
    used: ClassVar[str]
    costs: ClassVar[str]

    @abstractmethod
    def outputs(self, model: BaseModel, inputs: Sequence[InputT]) -> NDArray[np.float32]:
        """Return what a model gives for each input, float32 [n, width]."""

    @abstractmethod
    def metric(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> QualityResult:
        """Compare a model's outputs with the original's for the same inputs, float32 [n, width] each."""

    @abstractmethod
    def cost(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
        """Return one figure of what was lost, by which layers are sorted: 0 for nothing."""

    def _judged(self, figures: dict[str, float]) -> QualityResult:
        return QualityResult(figures, self.limits.broken(figures))

    def tightened(self, share: float) -> Self:
        """Return a judge that allows only a share of the loss that this one allows."""
        return replace(self, limits=self.limits.tightened(share))


@dataclass(frozen=True)
class VectorQualityMetric(QualityMetric[str]):
    """Judges sentence vectors by their cosines to the original's, and by what they are near to."""

    limits: VectorLimits

    feature = OUTPUT_NAME
    unit = "texts"
    used = "embedded"
    costs = "of the mean cosine"

    def outputs(self, model: BaseModel, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Return a model's vectors of texts, float32 [n, d]."""
        return vectors_to_compare(model, inputs)

    def metric(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> QualityResult:
        """Compare vectors of the same texts, float32 [n, d] each."""
        return self._judged(agreement(reference, found).to_json())

    def cost(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
        """Return 1 - mean cosine."""
        return 1 - float(cosines_of(reference, found).mean())


@dataclass(frozen=True)
class SparseQualityMetric(VectorQualityMetric):
    """Judges sparse vectors as others, and by which of their dimensions are active."""

    limits: SparseLimits

    def metric(self, reference: NDArray[np.float32], found: NDArray[np.float32]) -> QualityResult:
        """Compare sparse vectors of the same texts, float32 [n, d] each."""
        overlap = {"active_overlap": active_overlap(reference, found)}
        return self._judged(agreement(reference, found).to_json() | overlap)
