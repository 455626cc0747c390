"""Verify a staged bundle through the runtime itself, on every engine that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monograph.bundle import open_bundle, read_probes
from monograph.engines import installed_devices
from monograph.errors import ParityError
from monograph.pipeline import open_pipeline
from monograph.verification import Verdict, verify

# The engine that must be right for a bundle to be written at all; the others get a verdict.
REQUIRED_DEVICE = "cpu"


def verify_everywhere(folder: Path, tolerance: float) -> dict[str, Any]:
    """Return the manifest's quality entries of a bundle, one verdict an engine.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1.

    Raises:
        ParityError: ONNX Runtime is not installed, or its float32 vectors are not torch's.

    """
    devices = installed_devices()
    if REQUIRED_DEVICE not in devices:
        raise ParityError("verification needs ONNX Runtime: pip install 'monograph[onnx]'")
    verdicts = [_verdict(folder, device, tolerance) for device in devices]
    for device, verdict in zip(devices, verdicts, strict=True):
        if device == REQUIRED_DEVICE and not verdict["passed"]:
            raise ParityError(f"the graph does not equal torch on {verdict['engine']}: {verdict['reason']}")
    return {"verdicts": verdicts}


def _verdict(folder: Path, device: str, tolerance: float) -> dict[str, Any]:
    bundle = open_bundle(folder)
    pipeline = open_pipeline(bundle, device=device, compute_dtype="auto", threads=None)
    try:
        verdict: Verdict = verify(pipeline, read_probes(folder), tolerance)
    finally:
        pipeline.engine.close()
    return verdict.to_json()
