"""How near each system's vectors, or scores, are to those of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, read_probes
from monograph.similarity import similarity_pairwise
from monograph_bench.results import SystemResult
from monograph_bench.texts import Workload
from monograph_export.tasks.rerank import RERANK_EXPORT

PROBES = "probes"


@dataclass(frozen=True)
class Reference:
    """Texts with the vectors that torch gives for them, or pairs with their logits, and a description of the source.

    ``vectors`` are float32 [n, d], of pairs [n, labels]; those of the tokens of texts follow one another.
    """

    texts: Workload
    vectors: NDArray[np.float32]
    description: str


@dataclass(frozen=True)
class Comparison:
    """How outputs are compared with the reference's, and how reports show that.

    ``measure`` returns metrics by name, which are the ``field`` of a system's result. ``mean`` and ``worst`` are those
    that tables show, in a column named ``label``, in ``number_format`` or, with little room, ``short_format``;
    ``footnote`` explains them.
    ``plotted`` is the metric that plots show, larger for better, with ``axis`` as its title. Between two runs the worst
    may change by ``max_change`` for the worse, of which ``larger_is_better`` is the direction; ``compared`` is its name
    there.
    """

    measure: Callable[[NDArray[np.float32], Reference], dict[str, float]]
    field: str
    mean: str
    worst: str
    label: str
    number_format: str
    short_format: str
    plotted: str
    axis: str
    compared: str
    max_change: float
    larger_is_better: bool = True
    footnote: str = ""

    def worst_of(self, system: SystemResult) -> float | None:
        """Return how near a system is to the reference in the worst case, None where that is not known."""
        return self._metrics(system).get(self.worst)

    def describe(self, system: SystemResult, number_format: str) -> str:
        """Return mean and worst of a system for a table, "" where they are not known."""
        metrics = self._metrics(system)
        if self.worst not in metrics:
            return ""
        return " / ".join(format(metrics[name], number_format) for name in (self.mean, self.worst))

    def plotted_of(self, system: SystemResult) -> float | None:
        """Return the metric that plots show, None where that is not known."""
        return self._metrics(system).get(self.plotted)

    def describe_change(self, old: SystemResult, new: SystemResult) -> str | None:
        """Return what became worse from one run to another, None where nothing did."""
        before, after = self.worst_of(old), self.worst_of(new)
        if before is None or after is None:
            return None
        if (before - after if self.larger_is_better else after - before) <= self.max_change:
            return None
        verb = "fell" if self.larger_is_better else "rose"
        return f"{self.compared} {verb} from {before:{self.number_format}} to {after:{self.number_format}}"

    def _metrics(self, system: SystemResult) -> dict[str, float]:
        metrics: dict[str, float] = getattr(system, self.field)
        return metrics


def read_reference(bundles: Mapping[str, Bundle]) -> Reference | None:
    """Return the probes of the first bundle whose reference is the unchanged model, None where there is no such bundle.

    The probes of a compressed bundle are torch's with the same rounding, which would hide what the rounding costs, and
    those of one with a pruned vocabulary are of the model with fewer tokens. Those of an encoder's ONNX file are what
    that file gives, which may be quantized itself.
    """
    for name, bundle in bundles.items():
        quality = bundle.manifest.quality
        if quality.compression is None and quality.vocabulary is None and quality.encoder_file is None:
            probes, *_ = read_probes(bundle.path, bundle.manifest.output_width)
            description = f"the {len(probes.texts)} probes of {name}: {quality.reference}"
            vectors = np.concatenate(probes.vectors) if probes.per_token else probes.vectors
            return Reference(Workload(PROBES, probes.texts), vectors, description)
    return None


def cosines(vectors: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Return mean and worst cosine of vectors, float32 [n, d], to the reference; nothing for another dimension."""
    if vectors.shape != reference.vectors.shape:
        return {}
    values = np.nan_to_num(similarity_pairwise("cosine", vectors, reference.vectors), nan=-1.0)
    # A text may have a sparse vector of zeros only, which has no direction to be wrong.
    values = np.where(vectors.any(axis=1) | reference.vectors.any(axis=1), values, 1.0)
    return {"mean": float(values.mean()), "worst": float(values.min())}


def score_agreement(scores: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Return how logits, float32 [n] or [n, labels], agree with the reference; nothing for another number of labels.

    The metrics are those of a compressed bundle's manifest, computed by the same code.
    """
    logits = scores.reshape(len(scores), -1)
    if logits.shape != reference.vectors.shape:
        return {}
    metrics = asdict(RERANK_EXPORT.agreement(reference.vectors, logits))
    del metrics["pairs"]
    # JSON has neither NaN nor infinity.
    largest = float(np.finfo(np.float32).max)
    return {name: float(np.nan_to_num(value, nan=largest, posinf=largest)) for name, value in metrics.items()}


COSINE = Comparison(
    cosines, "cosine", "mean", "worst", "cosine, mean / worst", number_format=".6f", short_format=".5f",
    plotted="mean", axis="mean cosine to torch", compared="worst cosine to the reference",
    # The vectors of a system are the same at every run, but for which engine builds which kernels.
    max_change=1e-4,
)  # fmt: skip
SCORE_DIFFERENCE = Comparison(
    score_agreement, "scores", "mean_difference", "worst_difference", "difference, mean / worst",
    number_format=".1e", short_format=".1e",
    plotted="spearman", axis="rank correlation with torch", compared="worst difference from the reference's scores",
    # As a part of the spread of the reference's.
    max_change=1e-3, larger_is_better=False,
    footnote="difference: from the logits of torch, as a part of their spread, the largest less the smallest",
)  # fmt: skip
