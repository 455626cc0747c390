"""From the device a user names to the engine that runs it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine, EngineOptions
from monograph.errors import DeviceError

COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")
# Int8 graphs round between float32 layers: OpenVINO 2026.4.1 gives other vectors at some lengths at bfloat16.
_INT8_DTYPES = ("float32",)
# The precisions of graphs, which an engine runs in types of its own.
_ANY_TYPE: Mapping[str, str | None] = {"fp32": None, "fp16": None, "int8": None}
_X86 = ("x86_64", "AMD64", "i386", "i686")


@dataclass(frozen=True)
class EngineEntry:
    """A kind of device, the engine that serves it, and the package and extra that bring it.

    ``module`` has ``compute_dtypes(device)`` and ``create_engine(bundle, graph, options)``. ``machines`` are those for
    which device="auto" thinks of it, in the words of ``platform.machine()``; none for all. ``file`` is a file of the
    package that has to be there, as a pattern. ``precisions`` are those of the graphs that it runs, each with the type
    that the graph decides on, None where the engine does.
    """

    kind: str
    engine: str
    module: str
    package: str
    extra: str
    machines: tuple[str, ...] = ()
    file: str = ""
    precisions: Mapping[str, str | None] = field(default_factory=lambda: dict(_ANY_TYPE))

    @property
    def installed(self) -> bool:
        """Whether the engine's package is there, without importing it."""
        spec = importlib.util.find_spec(self.package)
        # A folder that an uninstall left behind is a namespace, and has no origin.
        if spec is None or spec.origin is None:
            return False
        return not self.file or any(Path(spec.origin).parent.glob(self.file))

    @property
    def preferred_here(self) -> bool:
        """Whether device="auto" thinks of it on this machine."""
        return self.installed and (not self.machines or platform.machine() in self.machines)

    def load(self) -> ModuleType:
        """Import the engine's module, and no engine yet."""
        return importlib.import_module(self.module)


# In the order of preference of device="auto". An engine is added here and in a module of its own.
ENGINES = (
    EngineEntry(
        "cuda",
        "onnxruntime",
        "monograph.engines.cuda",
        "onnxruntime",
        "cuda",
        file="capi/*onnxruntime_providers_cuda*",
        precisions={"fp32": "float32", "fp16": "float16"},
    ),
    EngineEntry("openvino", "openvino", "monograph.engines.openvino", "openvino", "openvino", _X86),
    EngineEntry("cpu", "onnxruntime", "monograph.engines.onnxruntime", "onnxruntime", "onnx"),
)


def installed_devices() -> tuple[str, ...]:
    """Return the kinds of device whose engine is installed, the preferred first."""
    return tuple(entry.kind for entry in ENGINES if entry.installed)


def runs_precision_of(bundle: Bundle, device: str) -> bool:
    """Tell whether a device is for graphs of the bundle's precision at all: CUDA is not for int8.

    Raises:
        DeviceError: the device is not known, or its engine is not installed.

    """
    return any(graph.precision in _entry(device).precisions for graph in bundle.manifest.graphs)


def automatic_devices() -> tuple[str, ...]:
    """Return the kinds of device that device="auto" chooses from on this machine, the preferred first.

    Raises:
        DeviceError: no engine is installed.

    """
    if not installed_devices():
        extras = " or ".join(f"pip install 'monograph[{entry.extra}]'" for entry in reversed(ENGINES))
        raise DeviceError(f"no engine is installed: {extras}")
    return tuple(entry.kind for entry in ENGINES if entry.preferred_here) or installed_devices()


def dtypes_of(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in on this machine, the preferred first.

    Raises:
        DeviceError: the device is not known, its engine is not installed, or it is not on this machine.

    """
    dtypes: tuple[str, ...] = _entry(device).load().compute_dtypes(device)
    return dtypes


def dtypes_for(bundle: Bundle, device: str) -> tuple[str, ...]:
    """Return the types that a device runs the bundle's graph in, the preferred first.

    Raises:
        DeviceError: as ``dtypes_of``; or the bundle has no graph for the device, or none of a type that it computes in.

    """
    # The graphs of all routes are of one precision.
    route = next(iter(bundle.manifest.tokenizers))
    entry = _entry(device)
    return _dtypes_of_graph(bundle, _graph_for(bundle, entry, route), entry, device)


def open_engine(
    bundle: Bundle, options: EngineOptions, route: str | None = None, *, check_verifications: bool = True
) -> Engine:
    """Load the bundle's graph of a route on a device, in a type that ``dtypes_for`` has or in "auto".

    "auto" is the preferred type that the bundle was not found wrong in. Without ``check_verifications`` what the export found
    is left out of account, so that it can be verified anew.

    Raises:
        DeviceError: the device, its engine or the type cannot be had here, or the bundle is known to be wrong on it.
        BundleError: the engine cannot load the graph.

    """
    entry = _entry(options.device)
    graph = _graph_for(bundle, entry, route)
    module = entry.load()
    asked, possible = options.compute_dtype, _dtypes_of_graph(bundle, graph, entry, options.device)
    if asked != "auto" and asked not in possible:
        what = f"an {graph.precision} graph" if possible != dtypes_of(options.device) else "on this machine"
        raise DeviceError(
            f"device {options.device!r} computes {what} in {' or '.join(possible)}, not in {asked}: leave "
            "compute_dtype at 'auto'"
        )
    failure = ""
    for dtype in possible if asked == "auto" else (asked,):
        engine: Engine = module.create_engine(bundle, graph, replace(options, compute_dtype=dtype))
        failure = _failed_verification(bundle, engine) if check_verifications else ""
        if not failure:
            return engine
        engine.close()
    raise DeviceError(failure)


def check_compute_dtype(compute_dtype: object) -> None:
    """Refuse what is the name of no type.

    Raises:
        DeviceError: it is not one of ``COMPUTE_DTYPES``.

    """
    if compute_dtype not in COMPUTE_DTYPES:
        raise DeviceError(f"compute_dtype {compute_dtype!r} is not one of {', '.join(COMPUTE_DTYPES)}")


def _entry(device: object) -> EngineEntry:
    kind = device.partition(":")[0] if isinstance(device, str) else device
    for entry in ENGINES:
        if entry.kind == kind:
            # CUDA's own module says which of all that it needs is missing.
            if not entry.installed and not entry.file:
                raise DeviceError(f"device {device!r} needs {entry.package}: pip install 'monograph[{entry.extra}]'")
            return entry
    known = ", ".join(repr(entry.kind) for entry in ENGINES)
    raise DeviceError(f"device {device!r} is not known to this release; it has 'auto', {known}")


def _graph_for(bundle: Bundle, entry: EngineEntry, route: str | None) -> Graph:
    for graph in bundle.manifest.graphs:
        if graph.route == route and entry.engine in graph.engines and entry.kind in graph.devices:
            return graph
    of_route = "" if route is None else f" with the route {route!r}"
    has_none = f"bundle {bundle.path}{of_route} has no graph for {entry.kind!r}"
    if not runs_precision_of(bundle, entry.kind):
        raise DeviceError(
            f"{has_none}, which runs {' and '.join(entry.precisions)}: export it with --precision "
            f"{list(entry.precisions)[-1]}, or choose another device"
        )
    raise DeviceError(f"{has_none}: export it again for that device")


def _dtypes_of_graph(bundle: Bundle, graph: Graph, entry: EngineEntry, device: str) -> tuple[str, ...]:
    dtypes = dtypes_of(device)
    if not dtypes:
        raise DeviceError(f"device {device!r} computes in no type that this release knows")
    if decided := entry.precisions.get(graph.precision):
        return (decided,)
    possible = tuple(dtype for dtype in dtypes if graph.precision != "int8" or dtype in _INT8_DTYPES)
    if not possible:
        raise DeviceError(
            f"device {device!r} computes in {' or '.join(dtypes)}, and the int8 graph of bundle {bundle.path} needs "
            f"{' or '.join(_INT8_DTYPES)}: choose another device, or a bundle of --precision fp32"
        )
    return possible


def was_verified(bundle: Bundle, engine: Engine) -> bool:
    """Tell whether the bundle was verified on an engine's device in its type when it was exported."""
    return any(_verifications_on(bundle, engine))


def _failed_verification(bundle: Bundle, engine: Engine) -> str:
    """Return why the bundle is known to be wrong on an engine, "" where it is not."""
    for verdict in _verifications_on(bundle, engine):
        if verdict.get("passed") is False:
            return (
                f"bundle {bundle.path} was found wrong on {engine.device!r} at {engine.compute_dtype} when it was "
                f"exported with {engine.name} {verdict.get('version')} ({verdict.get('reason')}): choose another "
                "device or compute_dtype, or export it again to have another version judged"
            )
    return ""


def _verifications_on(bundle: Bundle, engine: Engine) -> Iterator[Mapping[str, Any]]:
    asked = (engine.name, engine.device, engine.compute_dtype)
    for verdict in bundle.manifest.quality.get("verdicts", []):
        if (verdict.get("engine"), verdict.get("device"), verdict.get("compute_dtype")) == asked:
            yield verdict
