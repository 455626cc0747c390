"""Verify a staged bundle through the runtime itself, on every engine that is installed."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from monograph.bundle import open_bundle, read_probes
from monograph.engines import dtypes_of, installed_devices
from monograph.errors import BundleError, DeviceError, ParityError
from monograph.opening import open_pipeline
from monograph.verification import Verdict, verify

logger = logging.getLogger(__name__)
# The engine that must be right for a bundle to be written at all; the others get a verdict.
REQUIRED_DEVICE = "cpu"


def verify_everywhere(folder: Path, tolerance: float) -> dict[str, Any]:
    """Return the manifest's quality entries of a bundle, a verdict for each engine and each type it computes in here.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1.

    Raises:
        ParityError: ONNX Runtime is not installed, or its float32 vectors are not torch's.

    """
    devices = installed_devices()
    if REQUIRED_DEVICE not in devices:
        raise ParityError("verification needs ONNX Runtime: pip install 'monograph[onnx]'")
    required = _verdict(folder, REQUIRED_DEVICE, "float32", tolerance)
    if not required.passed:
        raise ParityError(f"the graph does not equal torch on {required.engine}: {required.reason}")
    verdicts, not_run = [required], {}
    for device in devices:
        if device == REQUIRED_DEVICE:
            continue
        try:
            verdicts += [_verdict(folder, device, dtype, tolerance) for dtype in dtypes_of(device)]
        except (BundleError, DeviceError) as error:
            # The bundle is right without this engine, which will refuse it by itself.
            logger.warning("%s cannot run the bundle: %s", device, error)
            not_run[device] = str(error)
    return {"verdicts": [verdict.to_json() for verdict in verdicts], "not_run": not_run}


def _verdict(folder: Path, device: str, compute_dtype: str, tolerance: float) -> Verdict:
    # Not the user's cache: what is compiled here is of a bundle whose manifest is not final.
    with tempfile.TemporaryDirectory() as cache:
        pipeline = open_pipeline(
            open_bundle(folder), device=device, compute_dtype=compute_dtype, threads=None, cache_dir=cache
        )
        try:
            return verify(pipeline, read_probes(folder), tolerance)
        finally:
            pipeline.engine.close()
