"""How near each system's vectors are to those of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, read_probes
from monograph.similarity import similarity_pairwise
from monograph_bench.texts import Workload

PROBES = "probes"


@dataclass(frozen=True)
class Reference:
    """Texts with the vectors that torch gives for them, float32 [n, d], and in words where they are from."""

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
            probes, *_ = read_probes(bundle.path)
            words = f"torch at float32, by the {len(probes.texts)} probes of {name}"
            return Reference(Workload(PROBES, probes.single_texts), probes.vectors, words)
    return None


def cosines(vectors: NDArray[np.float32], reference: Reference) -> dict[str, float]:
    """Return mean and worst cosine of vectors, float32 [n, d], to the reference; nothing for another dimension."""
    if vectors.shape != reference.vectors.shape:
        return {}
    found = np.nan_to_num(similarity_pairwise("cosine", vectors, reference.vectors), nan=-1.0)
    return {"mean": float(found.mean()), "worst": float(found.min())}
