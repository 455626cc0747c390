"""`monograph verify`: run a bundle's own acceptance test on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from monograph.bundle import Bundle, Probes, open_bundle, read_probes
from monograph.bundle.sources import locate_bundle
from monograph.commands import options
from monograph.engines import automatic_devices, dtypes_for, installed_devices, runs_precision_of
from monograph.engines.devices import COMPUTE_DTYPES
from monograph.errors import DeviceError, MonographError
from monograph.opening import open_routes
from monograph.verification import VerificationResult, verify

HELP = "hash every file, run the bundle's probes on each engine and compare with their reference"
ALL = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument(
        "--device",
        default=ALL,
        help="all that is installed (default), auto, cpu, openvino, openvino:NAME, cuda, cuda:N",
    )
    parser.add_argument(
        "--compute-dtype",
        default=ALL,
        choices=(ALL, *COMPUTE_DTYPES),
        help="all that the device computes in (default), auto for the one it would take, or one",
    )
    options.add_threads(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a verdict for each engine and type; exit 1 where the bundle is wrong on one, or one cannot run it."""
    bundle = open_bundle(locate_bundle(arguments.bundle), check="full")
    probes = read_probes(bundle.path, bundle.manifest.output_width)
    verdicts: list[VerificationResult] = []
    not_run: dict[str, str] = {}
    for device, compute_dtype in _asked(bundle, arguments.device, arguments.compute_dtype, not_run):
        try:
            verdicts.append(_verdict(bundle, probes, device, compute_dtype, arguments.threads))
        except MonographError as error:
            not_run[f"{device} {compute_dtype}"] = str(error)
            continue
        if not arguments.json:
            _print(verdicts[-1])
    passed = bool(verdicts) and not not_run and all(verdict.passed for verdict in verdicts)
    if arguments.json:
        told = {"passed": passed, "verdicts": [verdict.to_json() for verdict in verdicts], "not_run": not_run}
        print(json.dumps(told, indent=2))
    elif not_run:
        sys.stdout.flush()
        raise DeviceError("; ".join(f"{name} cannot run the bundle: {why}" for name, why in not_run.items()))
    return 0 if passed else 1


def _asked(bundle: Bundle, device: str, compute_dtype: str, not_run: dict[str, str]) -> list[tuple[str, str]]:
    """Return the pairs of device and type to verify; a type that only some devices have leaves out the others.

    Of all devices those that are not for the bundle's precision are left out. One that is installed and has no types,
    because it is broken, goes to ``not_run``.
    """
    if device == "auto":
        return [(device, "auto" if compute_dtype == ALL else compute_dtype)]
    if device == ALL:
        automatic_devices()  # Says what to install where no engine is.
    devices = [name for name in installed_devices() if runs_precision_of(bundle, name)] if device == ALL else [device]
    if compute_dtype == "auto":
        return [(name, compute_dtype) for name in devices]
    pairs = []
    for name in devices:
        try:
            pairs += [(name, dtype) for dtype in dtypes_for(bundle, name) if compute_dtype in (ALL, dtype)]
        except DeviceError as error:
            not_run[name] = str(error)
    if not pairs and not not_run:
        raise DeviceError(f"no device asked for computes in {compute_dtype} on this machine: leave --compute-dtype out")
    return pairs


def _verdict(
    bundle: Bundle, probes: Sequence[Probes], device: str, compute_dtype: str, threads: int | None
) -> VerificationResult:
    routes = open_routes(
        bundle, device=device, compute_dtype=compute_dtype, threads=threads, check_verifications=compute_dtype == "auto"
    )
    try:
        return verify(routes, probes)
    finally:
        routes.close()


def _print(verdict: VerificationResult) -> None:
    print(f"{verdict.device} ({verdict.engine} {verdict.version}), {verdict.compute_dtype}: {verdict.tolerance}")
    widest = max(len(case.case) for case in verdict.cases)
    for case in verdict.cases:
        difference = f"max abs difference {case.max_abs_difference:.2e}"
        cosine = "" if case.min_cosine is None else f"  worst cosine {case.min_cosine:.7f}"
        print(f"  {case.case:<{widest}} {difference}{cosine}")
    print(f"passed: {verdict.probes} probes" if verdict.passed else f"FAILED: {verdict.reason}", flush=True)
