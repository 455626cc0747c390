"""From the device a user names to the engine that runs it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine
from monograph.errors import DeviceError

COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class EngineEntry:
    """A kind of device, the engine that serves it, and the package and extra that bring it."""

    kind: str
    engine: str
    module: str
    package: str
    extra: str

    @property
    def installed(self) -> bool:
        """Whether the engine's package can be imported, without importing it."""
        return importlib.util.find_spec(self.package) is not None


# In the order of preference of device="auto". An engine is added here and in a module of its own.
ENGINES = (EngineEntry("cpu", "onnxruntime", "monograph.engines.onnxruntime", "onnxruntime", "onnx"),)


def installed_devices() -> tuple[str, ...]:
    """Return the kinds of device whose engine is installed, the preferred first."""
    return tuple(entry.kind for entry in ENGINES if entry.installed)


def open_engine(bundle: Bundle, device: str, compute_dtype: str, threads: int) -> Engine:
    """Load the bundle's graph on a device.

    ``device`` is "auto" or a kind with an optional ":" and an index or name; ``compute_dtype`` is "auto" or a
    type of ``COMPUTE_DTYPES``; ``threads`` is a number of CPU threads.

    Raises:
        DeviceError: the device, its engine or the type cannot be had here, or the bundle is known to be wrong on it.
        BundleError: the engine cannot load the graph.

    """
    if compute_dtype not in COMPUTE_DTYPES:
        raise DeviceError(f"compute_dtype {compute_dtype!r} is not one of {', '.join(COMPUTE_DTYPES)}")
    entry = _chosen(device)
    graph = _graph_for(bundle, entry)
    create: Callable[..., Engine] = importlib.import_module(entry.module).create_engine
    engine = create(bundle, graph, device=device, compute_dtype=compute_dtype, threads=threads)
    failed = _failed_verdict(bundle, engine)
    if failed:
        engine.close()
        raise DeviceError(failed)
    return engine


def _chosen(device: str) -> EngineEntry:
    if device == "auto":
        installed = [entry for entry in ENGINES if entry.installed]
        if not installed:
            extras = " or ".join(f"pip install 'monograph[{entry.extra}]'" for entry in ENGINES)
            raise DeviceError(f"no engine is installed: {extras}")
        return installed[0]
    kind = device.partition(":")[0] if isinstance(device, str) else device
    for entry in ENGINES:
        if entry.kind == kind:
            if not entry.installed:
                raise DeviceError(f"device {device!r} needs {entry.package}: pip install 'monograph[{entry.extra}]'")
            return entry
    known = ", ".join(repr(entry.kind) for entry in ENGINES)
    raise DeviceError(f"device {device!r} is not known to this release; it has 'auto', {known}")


def _graph_for(bundle: Bundle, entry: EngineEntry) -> Graph:
    for graph in bundle.manifest.graphs:
        if entry.engine in graph.engines and entry.kind in graph.devices:
            return graph
    raise DeviceError(f"bundle {bundle.path} has no graph for {entry.kind!r}: export it again for that device")


def _failed_verdict(bundle: Bundle, engine: Engine) -> str | None:
    for verdict in bundle.manifest.quality.get("verdicts", []):
        same = (verdict.get("engine"), verdict.get("device"), verdict.get("compute_dtype")) == (
            engine.name,
            engine.device,
            engine.compute_dtype,
        )
        if same and verdict.get("passed") is False:
            return (
                f"bundle {bundle.path} was found wrong on {engine.device!r} at {engine.compute_dtype} when it was "
                f"exported ({verdict.get('reason', 'no reason given')}): choose another device or compute_dtype"
            )
    return None
