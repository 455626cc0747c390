"""Verify a staged bundle through the runtime itself, on every engine that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from monograph.bundle import Bundle
from monograph.engines import installed_devices
from monograph.errors import ExportError, ParityError
from monograph.inference.verification import ALONE
from monograph.inference.verifier_process import VerifierProcess
from monograph.progress import SILENT, Progress
from monograph.quality import VerificationResult
from monograph_export.verifier import verify_in_process, verify_on_device, verify_other_graphs

logger = logging.getLogger(__name__)
# The engine that must be right for a bundle to be written at all; the others are only recorded.
REQUIRED_DEVICE = "cpu"


def check_engine() -> None:
    """Refuse to export where the engine that must be right is not installed.

    Raises:
        ExportError: saying how to install it.

    """
    if REQUIRED_DEVICE not in installed_devices():
        raise ExportError(
            "an export is verified with ONNX Runtime, which is not installed: pip install 'monograph[onnx]'"
        )


@contextmanager
def verifier_processes() -> Iterator[list[VerifierProcess]]:
    """Give a process for each installed engine but the one that must be right, which verifies in this one."""
    with ExitStack() as stack:
        others = (device for device in installed_devices() if device != REQUIRED_DEVICE)
        yield [stack.enter_context(VerifierProcess(device)) for device in others]


def verify_everywhere(
    bundle: Bundle,
    tolerance: float,
    others: Sequence[VerifierProcess],
    reference: str,
    progress: Progress = SILENT,
) -> tuple[tuple[VerificationResult, ...], dict[str, str]]:
    """Verify a bundle of one precision on each engine, in each type that it computes in here.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1; ``reference`` is what gave
    the probes' vectors, in words. The steps are reported to ``progress``, also those of other processes. Returns the
    results, and why an engine, by device and type, gave none.

    Raises:
        ParityError: ONNX Runtime's float32 vectors are not the reference's.
        MonographError: ONNX Runtime cannot run the graph.

    """
    required = verify_on_device(bundle, REQUIRED_DEVICE, "float32", tolerance, progress)
    if not required.passed:
        raise ParityError(
            f"the graph does not equal {reference} on {required.engine}: {required.reason}{_cause(required)}"
        )
    for_others = verify_other_graphs(bundle, tolerance, progress)
    if for_others is not None and not for_others.passed:
        raise ParityError(f"the graph for GPUs does not equal {reference}, run on the CPU: {for_others.reason}")
    results, not_run = [required], dict[str, str]()
    # One after the other: side by side they would take each other's cores.
    for other in others:
        verified, missing = verify_in_process(other, bundle, tolerance, progress)
        results += verified
        # The bundle is right without this engine, which will refuse it by itself.
        for name, why in missing.items():
            logger.warning("%s cannot run the bundle: %s", name, why)
        not_run |= missing
    return tuple(results), not_run


def _cause(result: VerificationResult) -> str:
    """Return what the ways of batching that failed have in common, as the end of a sentence; "" for nothing known."""
    failed = [case for case in result.cases if result.tolerance.violation(case)]
    if not failed or any(ALONE in case.case for case in failed):
        return ""
    return (
        "; each alone is right, so padding or a neighbour in its batch changes what this model computes of a text, and "
        "such a model cannot be exported"
    )
