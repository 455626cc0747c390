"""Compress a cross-encoder as asked for, and refuse what moves its scores too far.

Cosines and neighbours say nothing of scores, so pairs are judged: how alike they are sorted, and how far each score
moves, as a part of the spread of all.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from monograph.errors import ExportError
from monograph.inputs import Pair
from monograph_export.compression.float16 import halve
from monograph_export.compression.gate import rank_correlation
from monograph_export.compression.options import Compression
from monograph_export.compression.table import compress_table
from monograph_export.compression.texts import built_in_texts
from monograph_export.parity import REQUIRED_DEVICE
from monograph_export.probes import check_finite
from monograph_export.reranking.probes import reference_logits
from monograph_export.verdict import staged_routes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreLimits:
    """The least agreement with the original with which a bundle is written."""

    spearman: float = 0.99
    worst_difference: float = 0.1


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
class CompressedPairs:
    """What was done to a cross-encoder, as JSON values, and the original's logits of pairs to judge it by."""

    record: dict[str, Any]
    pairs: tuple[Pair, ...]
    reference: NDArray[np.float32]


def compress_cross_encoder(model: CrossEncoder, asked: Compression) -> CompressedPairs | None:
    """Compress a model in place, or return None where nothing is to be done.

    Raises:
        ExportError: the scores of the result are further from the original's than the limits allow.

    """
    if asked.precision == "fp32" and asked.table != "int8":
        return None
    pairs = pairs_to_judge()
    logger.info("computing the original's scores")
    reference = reference_logits(model, pairs)
    check_finite(reference)
    kept = "fp16" if asked.precision == "fp16" else "fp32"
    record: dict[str, Any] = {"table": asked.table or kept, "limits": asdict(ScoreLimits())}
    if asked.precision == "fp16":
        halve(model)
        record["layers"] = {"precision": "fp16"}
    if asked.table == "int8":
        compress_table(model)
    check_agreement(score_agreement(reference, reference_logits(model, pairs)), "compressed, the model")
    return CompressedPairs(record, pairs, reference)


def pairs_to_judge() -> tuple[Pair, ...]:
    """Return pairs of sentences of many languages: each beside the next, and every other one beside itself."""
    texts = built_in_texts().held_out
    return (*zip(texts, [*texts[1:], texts[0]], strict=True), *((text, text) for text in texts[::2]))


def measured_on_engine(folder: Path, compressed: CompressedPairs) -> dict[str, float]:
    """Return how near the scores of a compressed bundle, run by ONNX Runtime, are to the original model's.

    Raises:
        ExportError: they are further than the limits allow.

    """
    with staged_routes(folder, REQUIRED_DEVICE, "float32") as routes:
        found = score_agreement(compressed.reference, routes.main.outputs(list(compressed.pairs)))
    check_agreement(found, "on ONNX Runtime the compressed model")
    return found.to_json()


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


def check_agreement(found: ScoreAgreement, what: str) -> None:
    """Refuse an agreement below the limits; NaN is.

    Raises:
        ExportError: naming what is too far.

    """
    limits = ScoreLimits()
    broken: list[str] = []
    if not found.spearman >= limits.spearman:
        broken.append(f"rank correlation {found.spearman:.4f} is below {limits.spearman}")
    if not found.worst_difference <= limits.worst_difference:
        broken.append(
            f"a score moves by {found.worst_difference:.1%} of the spread, above {limits.worst_difference:.0%}"
        )
    if broken:
        raise ExportError(
            f"{what} is too far from the original: {', '.join(broken)}; choose --precision fp32 and --table fp32"
        )
