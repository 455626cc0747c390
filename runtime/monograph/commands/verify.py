"""`monograph verify`: run a bundle's own acceptance test on this machine."""

from __future__ import annotations

import argparse
import json

from monograph.bundle import open_bundle, read_probes
from monograph.commands import options
from monograph.pipeline import open_pipeline
from monograph.verification import Verdict, verify

HELP = "hash every file, embed the bundle's probes and compare with what torch gave"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_engine(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdict; exit 1 where the bundle is wrong on this device."""
    bundle = open_bundle(arguments.bundle, check="full")
    probes = read_probes(bundle.path)
    pipeline = open_pipeline(
        bundle, device=arguments.device, compute_dtype=arguments.compute_dtype, threads=arguments.threads
    )
    try:
        verdict = verify(pipeline, probes)
    finally:
        pipeline.engine.close()
    if arguments.json:
        print(json.dumps(verdict.to_json(), indent=2))
    else:
        _print(verdict)
    return 0 if verdict.passed else 1


def _print(verdict: Verdict) -> None:
    print(f"{verdict.device} ({verdict.engine} {verdict.version}), {verdict.compute_dtype}: {verdict.tolerance}")
    for case in verdict.cases:
        print(f"  {case.case:<22} max abs difference {case.max_abs_difference:.2e}  worst cosine {case.min_cosine:.7f}")
    print(f"passed: {verdict.probes} probes" if verdict.passed else f"FAILED: {verdict.reason}")
