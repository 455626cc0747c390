"""Verify a staged bundle: in this process, or through one of the runtime's verifier processes.

The exporter's process still holds what torch mapped and traced when a bundle is verified, and an engine's own fault
there would take the export with it. Imports no torch.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace

from monograph.bundle import Bundle, Probes, read_probes
from monograph.cpu import available_cpus
from monograph.engines import EngineOptions
from monograph.inference.routes import Routes, load_routes, load_tokenizers
from monograph.inference.verification import verify
from monograph.inference.verifier_process import ALL, Request, VerifierProcess
from monograph.progress import Progress
from monograph.quality import VerificationResult

# What runs every operator that a bundle may have.
_CPU = "cpu"


def opened_routes(bundle: Bundle, device: str, compute_dtype: str) -> closing[Routes]:
    """Give a staged bundle of one precision, opened on a device and computing in one type.

    Raises:
        MonographError: the device cannot run the bundle.

    """
    return closing(load_routes(bundle, load_tokenizers(bundle), _options(device, compute_dtype)))


def verify_on_device(
    bundle: Bundle, device: str, compute_dtype: str, tolerance: float, progress: Progress
) -> VerificationResult:
    """Verify a staged bundle on a device, computing in one type; its steps are reported to ``progress``.

    Raises:
        MonographError: the device cannot run the bundle.

    """
    with ExitStack() as stack:
        with progress.step(f"Loading on {device} at {compute_dtype}"):
            routes = stack.enter_context(opened_routes(bundle, device, compute_dtype))
        return verify(routes, _probes_of(bundle), tolerance, progress)


def verify_other_graphs(bundle: Bundle, tolerance: float, progress: Progress) -> VerificationResult | None:
    """Verify on the CPU the graphs of a staged bundle that are for other devices only; None where there are none.

    It says that they compute the same, and nothing of how another device rounds.
    """
    graphs = [graph for graph in bundle.manifest.graphs if _CPU not in graph.devices]
    if not graphs:
        return None
    on_cpu = tuple(replace(graph, devices=(_CPU,)) for graph in graphs)
    bundle = replace(bundle, manifest=replace(bundle.manifest, graphs=on_cpu))
    with ExitStack() as stack:
        with progress.step(f"Loading the graph for other devices on {_CPU}"):
            routes = stack.enter_context(opened_routes(bundle, _CPU, "float32"))
        return verify(routes, _probes_of(bundle), tolerance, progress)


def verify_in_process(
    process: VerifierProcess, bundle: Bundle, tolerance: float, progress: Progress
) -> tuple[list[VerificationResult], dict[str, str]]:
    """Verify a staged bundle in a process, once, in each type that the device computes in.

    The steps are reported to ``progress``. Returns the results, and by device and type why there is none.
    """
    results, not_run = list[VerificationResult](), dict[str, str]()
    request = Request(bundle, _options(process.device, ALL), tolerance)
    for response in process.verify(request, progress):
        if response.result is not None:
            results.append(response.result)
        else:
            not_run[f"{process.device} {response.compute_dtype}".strip()] = "; ".join(response.problems)
    return results, not_run


def _probes_of(bundle: Bundle) -> tuple[Probes, ...]:
    return read_probes(bundle.path, bundle.manifest.output_width, bundle.probes_file)


def _options(device: str, compute_dtype: str) -> EngineOptions:
    # No cache: a bundle that fails leaves nothing behind.
    return EngineOptions(device, compute_dtype, available_cpus(), cache=None)
