"""Verify a staged bundle through the runtime itself, on every engine that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monograph.bundle import open_bundle, read_probes
from monograph.engines import EngineOptions, dtypes_of, installed_devices
from monograph.errors import DeviceError, MonographError, ParityError
from monograph.pipeline import load_pipeline, load_tokenizer
from monograph.threads import available_cpus
from monograph.verification import Verdict, verify

logger = logging.getLogger(__name__)
# The engine that must be right for a bundle to be written at all; the others get a verdict.
REQUIRED_DEVICE = "cpu"


def verify_everywhere(folder: Path, tolerance: float) -> dict[str, Any]:
    """Return the manifest's quality entries of a bundle, a verdict for each engine and each type it computes in here.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1.

    Raises:
        ParityError: ONNX Runtime's float32 vectors are not torch's.
        MonographError: ONNX Runtime cannot run the graph.

    """
    devices = installed_devices()
    required = _verdict(folder, REQUIRED_DEVICE, "float32", tolerance)
    if not required.passed:
        raise ParityError(f"the graph does not equal torch on {required.engine}: {required.reason}")
    verdicts = [required]
    not_run: dict[str, str] = {}
    for device, dtype in _others(devices, not_run):
        try:
            verdicts.append(_verdict(folder, device, dtype, tolerance))
        except MonographError as error:
            # The bundle is right without this engine, which will refuse it by itself.
            logger.warning("%s at %s cannot run the bundle: %s", device, dtype, error)
            not_run[f"{device} {dtype}"] = str(error)
    return {"verdicts": [verdict.to_json() for verdict in verdicts], "not_run": not_run}


def _others(devices: Sequence[str], not_run: dict[str, str]) -> Iterator[tuple[str, str]]:
    for device in devices:
        if device == REQUIRED_DEVICE:
            continue
        try:
            dtypes = dtypes_of(device)
        except DeviceError as error:
            logger.warning("%s cannot run here: %s", device, error)
            not_run[device] = str(error)
            continue
        yield from ((device, dtype) for dtype in dtypes)


def _verdict(folder: Path, device: str, compute_dtype: str, tolerance: float) -> Verdict:
    bundle = open_bundle(folder)
    # No cache: what is compiled here is of a bundle whose manifest is not final.
    options = EngineOptions(device, compute_dtype, available_cpus(), cache=None)
    pipeline = load_pipeline(bundle, load_tokenizer(bundle), options)
    try:
        return verify(pipeline, read_probes(folder), tolerance)
    finally:
        pipeline.engine.close()
