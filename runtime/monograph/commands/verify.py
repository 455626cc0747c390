"""`monograph verify`: run a bundle's acceptance test on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import usable_cache
from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph.cpu import available_cpus
from monograph.engines import (
    EngineOptions,
    automatic_devices,
    dtypes_for,
    installed_devices,
    select_precision,
    supports_precision_of,
)
from monograph.engines.registry import compute_dtype_names, device_help
from monograph.errors import DeviceError, MonographError, printable
from monograph.inference.opening import open_routes
from monograph.inference.verifier_process import verify_in_subprocess
from monograph.progress import Progress
from monograph.quality import QualityLevel, VerificationResult

HELP = "hash every file, run the bundle's probes on each engine and compare with their reference"
ALL = "all"
# Characters of the name of a case, which begins with a route's.
_MAX_NAME = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument("--device", default=ALL, help=f"all that is installed (default), auto, {device_help()}")
    parser.add_argument(
        "--compute-dtype",
        default=ALL,
        choices=(ALL, *compute_dtype_names()),
        help="all that the device computes in (default), auto for the one it would take, or one",
    )
    options.add_quality(parser, "every precision of the bundle")
    options.add_threads(parser)
    options.add_json(parser)
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a result for each precision, engine and type; return 1 if one fails or cannot run the bundle."""
    with reported(arguments) as progress:
        return _run(arguments, progress)


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    bundle = open_bundle(locate_bundle(arguments.bundle, progress=progress), "full", progress)
    results: list[tuple[str, VerificationResult]] = []
    not_run: dict[str, str] = {}
    quality: QualityLevel | None = arguments.quality
    for target in _expand(bundle, arguments.device, arguments.compute_dtype, quality, not_run):
        try:
            results.append(_verify(target, quality, arguments.threads, progress))
        except MonographError as error:
            not_run[str(target)] = str(error)
            continue
        if not arguments.json:
            _print(*results[-1], several=len(bundle.manifest.precisions) > 1)
    passed = bool(results) and not not_run and all(result.passed for _, result in results)
    if arguments.json:
        verifications = [{"precision": precision, **result.to_json()} for precision, result in results]
        print(json.dumps({"passed": passed, "verifications": verifications, "not_run": not_run}, indent=2))
    elif not_run:
        sys.stdout.flush()
        raise DeviceError("; ".join(f"{name} cannot run the bundle: {reason}" for name, reason in not_run.items()))
    return 0 if passed else 1


@dataclass(frozen=True)
class _Target:
    """What to verify: a bundle, of one precision unless the device is "auto", on a device in a type."""

    bundle: Bundle
    device: str
    compute_dtype: str

    def __str__(self) -> str:
        precision = self.bundle.precision
        return f"{'' if precision is None else f'{precision} on '}{self.device} {self.compute_dtype}"


def _expand(
    bundle: Bundle, device: str, compute_dtype: str, quality: QualityLevel | None, not_run: dict[str, str]
) -> list[_Target]:
    """Return what to verify: every precision, or that of a quality; devices without the type are left out.

    "all" leaves out devices that run none of the bundle's precisions. Broken devices, which report no types, go to
    ``not_run``.
    """
    if device == "auto":
        bundles = bundle.by_precision if quality is None else (bundle,)
        return [_Target(one, device, "auto" if compute_dtype == ALL else compute_dtype) for one in bundles]
    devices = [device]
    if device == ALL:
        automatic_devices()  # Raises if no engine is installed.
        devices = [name for name in installed_devices() if supports_precision_of(bundle, name)]
    targets = []
    for name in devices:
        for one in _precisions_on(bundle, name, quality):
            if compute_dtype == "auto":
                targets.append(_Target(one, name, compute_dtype))
                continue
            try:
                dtypes = dtypes_for(one, name)
            except DeviceError as error:
                not_run[name] = str(error)
                continue
            targets += [_Target(one, name, dtype) for dtype in dtypes if compute_dtype in (ALL, dtype)]
    if not targets and not not_run:
        raise DeviceError(
            f"none of these devices computes in {compute_dtype} on this machine: leave --compute-dtype out"
        )
    return targets


def _precisions_on(bundle: Bundle, device: str, quality: QualityLevel | None) -> Sequence[Bundle]:
    """Return the bundle restricted to each precision to verify on a device; itself, where the device runs none."""
    if quality is not None:
        return [select_precision(bundle, device, quality)]
    return [one for one in bundle.by_precision if supports_precision_of(one, device)] or [bundle]


def _verify(
    target: _Target, quality: QualityLevel | None, threads: int | None, progress: Progress
) -> tuple[str, VerificationResult]:
    """Return the precision that was verified, and the result."""
    bundle, device, compute_dtype = target.bundle, target.device, target.compute_dtype
    # What users open, a device that failed verification is refused for; a type that is named is verified again.
    check = compute_dtype == "auto"
    if device == "auto":
        with (
            progress.step("Choosing the device"),
            closing(
                open_routes(bundle, device=device, compute_dtype=compute_dtype, threads=threads, quality=quality)
            ) as routes,
        ):
            engine = routes.main.engine
            bundle, device, compute_dtype = routes.bundle, engine.device, engine.compute_dtype
    chosen = EngineOptions(device, compute_dtype, available_cpus() if threads is None else threads, usable_cache())
    # Of every engine: a damaged graph can crash ONNX Runtime, too.
    result = verify_in_subprocess(bundle, chosen, check_verifications=check, progress=progress)
    return bundle.manifest.precisions[0], result


def _print(precision: str, result: VerificationResult, *, several: bool) -> None:
    graph = f"{precision} graph on " if several else ""
    device = f"{result.device} ({result.engine} {result.version})"
    print(f"{graph}{device}, {result.compute_dtype}; tolerance: {result.tolerance}")
    names = [printable(case.case, _MAX_NAME) for case in result.cases]
    width = max(map(len, names))
    for case, name in zip(result.cases, names, strict=True):
        difference = f"max abs difference {case.max_abs_difference:.2e}"
        cosine = "" if case.worst_cosine is None else f"  worst cosine {case.worst_cosine:.7f}"
        print(f"  {name:<{width}} {difference}{cosine}")
    print(f"passed: {result.probes} probes" if result.passed else f"FAILED: {printable(result.reason)}", flush=True)
