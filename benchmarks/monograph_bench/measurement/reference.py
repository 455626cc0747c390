"""How near each system's vectors, or scores, are to those of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from monograph.bundle import Bundle, read_probes
from monograph.similarity import similarity_pairwise
from monograph_bench.texts import Workload

PROBES = "probes"


@dataclass(frozen=True)
class Reference:
    """Texts with the vectors that torch gives for them, or pairs with their logits, and in words where they are from.

    ``vectors`` are float32 [n, d], of pairs [n, labels].
    """

    texts: Workload
    vectors: NDArray[np.float32]
    words: str


def reference_of(bundles: Mapping[str, Bundle]) -> Reference | None:
    """Return the probes of the first bundle whose reference is the unchanged model, None where there is no such bundle.

    The probes of a compressed bundle are torch's with the same rounding, which would hide what the rounding costs, and
    those of one with fewer tokens are of the model with fewer tokens.
    """
    for name, bundle in bundles.items():
        if not bundle.manifest.quality.keys() & {"compression", "vocabulary"}:
            probes, *_ = read_probes(bundle.path, bundle.manifest.output_width)
            words = f"torch at float32, by the {len(probes.texts)} probes of {name}"
            return Reference(Workload(PROBES, probes.texts), probes.vectors, words)
    return None


def cosines(vectors: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Return mean and worst cosine of vectors, float32 [n, d], to the reference; nothing for another dimension."""
    if vectors.shape != reference.vectors.shape:
        return {}
    found = np.nan_to_num(similarity_pairwise("cosine", vectors, reference.vectors), nan=-1.0)
    # A text may have a sparse vector of zeros only, which has no direction to be wrong.
    found = np.where(vectors.any(axis=1) | reference.vectors.any(axis=1), found, 1.0)
    return {"mean": float(found.mean()), "worst": float(found.min())}


def score_agreement(scores: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Return how logits, float32 [n] or [n, labels], agree with the reference; nothing for another number of labels.

    The keys and their meaning are those that a compressed bundle keeps of itself: "spearman" is the rank correlation,
    0 where there is none, and "mean_difference" and "worst_difference" are absolute ones as parts of the spread of the
    reference's, the largest less the smallest. Of several labels the worst counts.
    """
    wanted = reference.vectors
    found = scores.reshape(len(scores), -1)
    if found.shape != wanted.shape:
        return {}
    moved = np.abs(found - wanted) / np.maximum(np.ptp(wanted, axis=0), np.finfo(np.float32).tiny)
    # JSON has no number for what is none.
    moved = np.where(np.isfinite(moved), moved, np.finfo(np.float32).max)
    return {
        "spearman": min(_rank_correlation(*columns) for columns in zip(wanted.T, found.T, strict=True)),
        "mean_difference": float(moved.mean(axis=0).max()),
        "worst_difference": float(moved.max()),
    }


def _rank_correlation(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    if not np.isfinite(found).all() or np.ptp(wanted) == 0 or np.ptp(found) == 0:
        return 0.0
    return float(spearmanr(wanted, found).statistic)
