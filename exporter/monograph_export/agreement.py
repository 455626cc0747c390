"""How near a compressed bundle, run by ONNX Runtime, is to the original model."""

from __future__ import annotations

from pathlib import Path

from monograph.errors import ExportError
from monograph.inputs import InputT
from monograph_export.compression.compress import Compressed
from monograph_export.parity import REQUIRED_DEVICE
from monograph_export.verifier import staged_routes


def measured_agreement(folder: Path, compressed: Compressed[InputT]) -> dict[str, float]:
    """Return how near a compressed bundle, run by ONNX Runtime, is to the original model.

    Raises:
        ExportError: it is further than the limits allow.

    """
    with staged_routes(folder, REQUIRED_DEVICE, "float32") as routes:
        found = compressed.metric.metric(compressed.reference, routes.main.outputs(compressed.texts))
    if found.broken:
        broken = ", ".join(found.broken)
        raise ExportError(f"on ONNX Runtime the compressed model is too far from the original: {broken}")
    return found.figures
