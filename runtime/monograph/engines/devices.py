"""Open the engine for a device and a bundle's graph."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine, EngineOptions
from monograph.engines.registry import EngineEntry, compute_dtype_names, engine_for
from monograph.errors import DeviceError, MonographError
from monograph.memory import check_memory, is_out_of_memory, out_of_memory
from monograph.quality import VerificationResult


def supports_precision_of(bundle: Bundle, device: str) -> bool:
    """Return whether a device runs graphs of the bundle's precision; CUDA does not run int8.

    Raises:
        DeviceError: the device is not known, or its engine is not installed.

    """
    return any(graph.precision in engine_for(device).precisions for graph in bundle.manifest.graphs)


def dtypes_of(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in on this machine, the preferred first.

    Raises:
        DeviceError: the device is not known, its engine is not installed, or it is not on this machine.

    """
    entry = engine_for(device)
    check_memory(entry.needed_bytes(0, 1), f"start device {device!r}", entry.needed_address_space())
    dtypes: tuple[str, ...] = entry.load().compute_dtypes(device)
    return dtypes


def dtypes_for(bundle: Bundle, device: str) -> tuple[str, ...]:
    """Return the types that a device runs the bundle's graph in, the preferred first.

    Raises:
        DeviceError: as ``dtypes_of``; or the bundle has no graph for the device, or none of a type that it computes in.

    """
    # The graphs of all routes are of one precision.
    route = next(iter(bundle.manifest.tokenizers))
    entry = engine_for(device)
    return _dtypes_of_graph(bundle, _graph_for(bundle, entry, route), entry, device)


def open_engine(
    bundle: Bundle, options: EngineOptions, route: str | None = None, *, check_verifications: bool = True
) -> Engine:
    """Load the bundle's graph of a route on a device.

    The compute dtype is one of ``dtypes_for`` or "auto", the preferred one in which no verification of the bundle
    failed. ``check_verifications=False`` ignores the export's verification results, to verify again.

    Raises:
        DeviceError: the device, its engine or the type cannot be had here, or the bundle is known to be wrong on it.
        BundleError: the engine cannot load the graph.

    """
    graph, dtypes = _graph_and_dtypes(bundle, options, route)
    entry = engine_for(options.device)
    try:
        return _open_correct(bundle, graph, dtypes, entry, options, check_verifications=check_verifications)
    except (MonographError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(
                error, _needed_bytes(bundle, graph, entry, options), _purpose(bundle, options)
            ) from error
        raise


def _open_correct(
    bundle: Bundle,
    graph: Graph,
    dtypes: tuple[str, ...],
    entry: EngineEntry,
    options: EngineOptions,
    *,
    check_verifications: bool,
) -> Engine:
    """Load a graph in the first of some types in which no verification of the bundle failed."""
    failure = ""
    for dtype in dtypes:
        engine: Engine = entry.load().create_engine(bundle, graph, replace(options, compute_dtype=dtype))
        engine.min_cosine = entry.min_cosine.get(engine.compute_dtype)
        failure = _failed_verification(bundle, engine) if check_verifications else ""
        if not failure:
            return engine
        engine.close()
    raise DeviceError(failure)


def check_options(bundle: Bundle, options: EngineOptions) -> None:
    """Raise the ``DeviceError`` that ``open_engine`` would raise before it loads a graph."""
    for route in bundle.manifest.tokenizers:
        _graph_and_dtypes(bundle, options, route)


def installed_version(entry: EngineEntry) -> str:
    """Return the version of an engine's package, which was imported."""
    return str(sys.modules[entry.package].__version__)


def _graph_and_dtypes(bundle: Bundle, options: EngineOptions, route: str | None) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph of a route, and the types to try it in.

    Raises:
        DeviceError: the device, its engine or the type cannot be had here.

    """
    entry = engine_for(options.device)
    graph = _graph_for(bundle, entry, route)
    # Before the engine is imported.
    check_memory(_needed_bytes(bundle, graph, entry, options), _purpose(bundle, options), entry.needed_address_space())
    requested, possible = options.compute_dtype, _dtypes_of_graph(bundle, graph, entry, options.device)
    if requested != "auto" and requested not in possible:
        what = f"an {graph.precision} graph" if possible != dtypes_of(options.device) else "on this machine"
        advice = ", or export with --precision fp16 for a GPU" if requested == "float16" else ""
        raise DeviceError(
            f"device {options.device!r} computes {what} in {' or '.join(possible)}, not in {requested}: leave "
            f"compute_dtype at 'auto'{advice}"
        )
    return graph, possible if requested == "auto" else (requested,)


def _needed_bytes(bundle: Bundle, graph: Graph, entry: EngineEntry, options: EngineOptions) -> int:
    return entry.needed_bytes(bundle.weights_bytes(graph), options.threads)


def _purpose(bundle: Bundle, options: EngineOptions) -> str:
    return f"open bundle {bundle.path} on {options.device!r}"


def check_compute_dtype(compute_dtype: object) -> None:
    """Raise ``DeviceError`` unless this is one of ``compute_dtype_names()``."""
    if compute_dtype not in compute_dtype_names():
        raise DeviceError(f"compute_dtype {compute_dtype!r} is not one of {', '.join(compute_dtype_names())}")


def was_verified(bundle: Bundle, engine: Engine) -> bool:
    """Return whether the export verified the bundle on this device in this type."""
    return any(_verifications_on(bundle, engine))


def _graph_for(bundle: Bundle, entry: EngineEntry, route: str | None) -> Graph:
    for graph in bundle.manifest.graphs:
        if graph.route in (None, route) and entry.kind in graph.devices:
            return graph
    of_route = "" if route is None else f" with the route {route!r}"
    problem = f"bundle {bundle.path}{of_route} has no graph for {entry.kind!r}"
    if not any(graph.precision in entry.precisions for graph in bundle.manifest.graphs):
        raise DeviceError(
            f"{problem}, which runs {' and '.join(entry.precisions)}: export it with --precision "
            f"{list(entry.precisions)[-1]}, or choose another device"
        )
    raise DeviceError(f"{problem}: export it again for that device")


def _dtypes_of_graph(bundle: Bundle, graph: Graph, entry: EngineEntry, device: str) -> tuple[str, ...]:
    dtypes = dtypes_of(device)
    if not dtypes:
        raise DeviceError(f"device {device!r} computes in no type that this release knows")
    if decided := entry.precisions.get(graph.precision):
        return (decided,)
    possible = tuple(dtype for dtype in dtypes if graph.precision != "int8" or dtype in entry.int8_dtypes)
    if not possible:
        raise DeviceError(
            f"device {device!r} computes in {' or '.join(dtypes)}, and the int8 graph of bundle {bundle.path} needs "
            f"{' or '.join(entry.int8_dtypes)}: choose another device, or a bundle of --precision fp32"
        )
    return possible


def _failed_verification(bundle: Bundle, engine: Engine) -> str:
    """Return the failed verification of the export on an engine in words, "" for none."""
    for result in _verifications_on(bundle, engine):
        if not result.passed:
            return (
                f"bundle {bundle.path} failed verification on {engine.device!r} at {engine.compute_dtype} when it was "
                f"exported with {engine.name} {result.version} ({result.reason}): choose another device or "
                "compute_dtype, or export it again to have another version verified"
            )
    return ""


def _verifications_on(bundle: Bundle, engine: Engine) -> Iterator[VerificationResult]:
    key = (engine.name, engine.device, engine.compute_dtype)
    for result in bundle.manifest.quality.verifications:
        if (result.engine, result.device, result.compute_dtype) == key:
            yield result
