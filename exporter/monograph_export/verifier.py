"""Verify a staged bundle on one device, in a process of its own: python -m monograph_export.verifier DEVICE.

The exporter's process still holds what torch mapped and traced when a bundle is verified, and an engine's own fault
there would take the export with it. Imports no torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from monograph.bundle import Bundle, open_bundle, read_probes
from monograph.cpu import available_cpus
from monograph.engines import EngineOptions, dtypes_for, dtypes_of
from monograph.errors import MonographError
from monograph.fields import Fields
from monograph.inference.routes import Routes, load_routes, load_tokenizers
from monograph.inference.verification import verify
from monograph.quality import VerificationResult

# What runs every operator that a bundle may have.
_CPU = "cpu"


@contextmanager
def staged_routes(folder: Path, device: str, compute_dtype: str) -> Iterator[Routes]:
    """Give a staged bundle, opened on a device and computing in one type.

    Raises:
        MonographError: the device cannot run the bundle.

    """
    with _opened(open_bundle(folder), device, compute_dtype) as routes:
        yield routes


@contextmanager
def _opened(bundle: Bundle, device: str, compute_dtype: str) -> Iterator[Routes]:
    # No cache: what is compiled here is of a bundle whose manifest is not final.
    options = EngineOptions(device, compute_dtype, available_cpus(), cache=None)
    routes = load_routes(bundle, load_tokenizers(bundle), options)
    try:
        yield routes
    finally:
        routes.close()


def verify_on_device(folder: Path, device: str, compute_dtype: str, tolerance: float) -> VerificationResult:
    """Verify a staged bundle on a device, computing in one type.

    Raises:
        MonographError: the device cannot run the bundle.

    """
    with staged_routes(folder, device, compute_dtype) as routes:
        return verify(routes, read_probes(folder, routes.main.runner.output_width), tolerance)


def verify_other_graphs(folder: Path, tolerance: float) -> VerificationResult | None:
    """Verify on the CPU the graphs of a staged bundle that are for other devices only; None where there are none.

    It says that they compute the same, and nothing of how another device rounds.
    """
    bundle = open_bundle(folder)
    graphs = [graph for graph in bundle.manifest.graphs if _CPU not in graph.devices]
    if not graphs:
        return None
    on_cpu = tuple(replace(graph, devices=(_CPU,)) for graph in graphs)
    bundle = replace(bundle, manifest=replace(bundle.manifest, graphs=on_cpu))
    with _opened(bundle, _CPU, "float32") as routes:
        return verify(routes, read_probes(folder, bundle.manifest.output_width), tolerance)


class VerifierProcess:
    """A process that verifies a staged bundle on a device; it imports the engine while the bundle is still being made.

    As a context it ends the process on the way out, whether it has verified or not.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        # -P: what lies in the current folder is no package of the exporter's.
        command = [sys.executable, "-P", "-m", __name__, device]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 - ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def verify(self, folder: Path, tolerance: float) -> tuple[list[VerificationResult], dict[str, str]]:
        """Verify a staged bundle, once, in each type that the device computes in.

        Returns the results, and by device and type why there is none.
        """
        output, errors = self._process.communicate(json.dumps([str(folder), tolerance]))
        if status := self._process.returncode:
            last = (errors.strip().splitlines() or ["no message"])[-1]
            return [], {self.device: f"verifying ended with exit status {status}: {last}"}
        # The last line: engines print what they like before it.
        report = Fields(json.loads(output.splitlines()[-1]), "", [])
        return [result.read(VerificationResult) for result in report.children("results")], report.string_map("not_run")


def main(device: str) -> None:
    """Read a folder and a tolerance as JSON from standard input, and print the results as one line of JSON."""
    # The engine is imported before there is anything to read. What fails here fails again below, and is reported then.
    with suppress(MonographError):
        dtypes_of(device)
    if not (request := sys.stdin.read()):
        return
    folder, tolerance = json.loads(request)
    results: list[VerificationResult] = []
    not_run: dict[str, str] = {}
    try:
        dtypes = dtypes_for(open_bundle(Path(folder)), device)
    except MonographError as error:
        dtypes = ()
        not_run[device] = str(error)
    for dtype in dtypes:
        try:
            results.append(verify_on_device(Path(folder), device, dtype, tolerance))
        except MonographError as error:
            not_run[f"{device} {dtype}"] = str(error)
    sys.stdout.write(json.dumps({"results": [result.to_json() for result in results], "not_run": not_run}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
