"""How near a compressed bundle, run by ONNX Runtime, is to the original model."""

from __future__ import annotations

from pathlib import Path

from monograph.errors import ExportError
from monograph_export.compression.compress import Compressed
from monograph_export.compression.gate import agreement, broken_limits
from monograph_export.compression.options import Limits
from monograph_export.parity import REQUIRED_DEVICE
from monograph_export.verdict import staged_routes


def measured_agreement(folder: Path, compressed: Compressed, limits: Limits) -> dict[str, float]:
    """Return how near a compressed bundle, run by ONNX Runtime, is to the original model.

    Raises:
        ExportError: it is further than the limits allow.

    """
    with staged_routes(folder, REQUIRED_DEVICE, "float32") as routes:
        found = agreement(compressed.reference, routes.main.outputs(compressed.texts))
    if broken := broken_limits(limits, found):
        raise ExportError(f"on ONNX Runtime the compressed model is too far from the original: {', '.join(broken)}")
    return found.to_json()
