"""Compress a model as asked for, and refuse what costs too much."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SparseEncoder
from sentence_transformers.base.model import BaseModel

from monograph.errors import ExportError
from monograph.inputs import InputT
from monograph_export.compression.float16 import halve
from monograph_export.compression.int8 import REDUCED_WEIGHT_LEVELS, WEIGHT_LEVELS
from monograph_export.compression.layers import LayerQuantizer
from monograph_export.compression.options import Compression
from monograph_export.compression.quality_metric import QualityMetric, QualityResult
from monograph_export.compression.table import compress_table, has_large_table, has_plain_table, quantize_mlm_head
from monograph_export.compression.texts import Calibration
from monograph_export.probes import check_finite

logger = logging.getLogger(__name__)
# Layers that an error or the manifest names.
_NAMED = 5
# Fewer texts than this show too little of what a layer is given to set its range.
_ENOUGH_TEXTS = 100
# With fewer, nearest neighbours and worst cosines say nothing.
_FEWEST_TEXTS = 20


@dataclass(frozen=True)
class Compressed(Generic[InputT]):
    """What was done to a model, as JSON values, and how it is judged.

    ``reference``, float32 [n, width], is what the original gives for the texts, which had no part in it. For a
    cross-encoder they are pairs, here and below.
    """

    record: dict[str, Any]
    texts: tuple[InputT, ...]
    reference: NDArray[np.float32]
    metric: QualityMetric[InputT]


def compress(
    model: BaseModel, asked: Compression, texts: Calibration[InputT], metric: QualityMetric[InputT]
) -> Compressed[InputT] | None:
    """Compress a model in place, or return None where nothing is to be done.

    Raises:
        ExportError: the result is further from the original than the limits allow, or a module has no int8 form.

    """
    layers = asked.precision == "int8"
    by_default = asked.table is None and (layers or has_large_table(model)) and has_plain_table(model)
    table = asked.table == "int8" or by_default
    if not table and asked.precision == "fp32":
        return None
    _check_enough(texts, layers=layers)
    logger.info("computing what the original gives")
    reference = metric.outputs(model, texts.held_out)
    check_finite(reference)
    kept = "fp16" if asked.precision == "fp16" else "fp32"
    record: dict[str, Any] = {"table": "int8" if table else kept, "limits": metric.limits.to_json()}
    if asked.precision == "fp16":
        halve(model)
        record["layers"] = {"precision": "fp16"}
    if table:
        compress_table(model)
    quantizer = None
    if layers:
        logger.info("calibrating")
        quantizer = LayerQuantizer(model, texts.calibration, _levels(asked), metric)
        calibrated = quantizer.quantize()
        record["layers"] = _described(quantizer, texts, calibrated, asked)
    if table and isinstance(model, SparseEncoder):
        quantize_mlm_head(model)
    found = metric.metric(reference, metric.outputs(model, texts.held_out))
    if found.broken:
        raise ExportError(_refusal(found, quantizer, texts, reference))
    return Compressed(record, texts.held_out, reference, metric)


def _check_enough(texts: Calibration[InputT], *, layers: bool) -> None:
    """Refuse to judge by next to nothing, where a reduced vocabulary has left nearly no text."""
    if not texts.held_out:
        raise ExportError(
            "none of the built-in texts can be written with the tokens that are kept, so what the compression costs "
            "cannot be judged: give texts of these scripts with --keep-vocab FILE as well"
        )
    if layers and texts.reduced and min(len(texts.calibration), len(texts.held_out)) < _FEWEST_TEXTS:
        raise ExportError(
            f"int8 layers have only {texts.origin} to calibrate with and {len(texts.held_out)} to judge by: give "
            "--calibration FILE with a few hundred texts of the scripts that are kept"
        )


def _levels(asked: Compression) -> int:
    return REDUCED_WEIGHT_LEVELS if asked.reduce_range else WEIGHT_LEVELS


def _described(
    quantizer: LayerQuantizer[InputT], texts: Calibration[InputT], calibrated: QualityResult, asked: Compression
) -> dict[str, Any]:
    return {
        "precision": "int8",
        "reduce_range": asked.reduce_range,
        "calibration": texts.origin,
        f"calibration_{quantizer.metric.unit}": len(texts.calibration),
        "calibration_agreement": calibrated.figures,
        "float32_inputs": [name for group in quantizer.float_inputs for name in group.originals],
        "smoothing_strength": {
            group.seen.names[0]: group.chosen.strength
            for group in quantizer.groups
            if group not in quantizer.float_inputs
        },
    }


def _refusal(
    found: QualityResult,
    quantizer: LayerQuantizer[InputT] | None,
    texts: Calibration[InputT],
    reference: NDArray[np.float32],
) -> str:
    parts = [f"compressed, the model is too far from the original: {', '.join(found.broken)}"]
    if quantizer is not None:
        metric = quantizer.metric
        costs = list(quantizer.costs(texts.held_out, reference).items())[:_NAMED]
        named = (f"{'/'.join(quantizer.groups[position].originals)} {cost:.4f}" for position, cost in costs)
        parts.append(f"the layers that cost most {metric.costs}, each by itself: {', '.join(named)}")
        if len(texts.calibration) < _ENOUGH_TEXTS:
            parts.append(
                f"calibrated was with {texts.origin}, too few to show what the layers are given: give a few hundred "
                f"{metric.unit} of the kind that will be {metric.used}, or leave --calibration out"
            )
        else:
            parts.append(
                f"calibrate with {metric.unit} nearer to those that will be {metric.used}, or choose --precision fp32"
            )
    else:
        parts.append("choose --precision fp32 and --table fp32")
    return "; ".join(parts)
