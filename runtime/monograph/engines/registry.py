"""The engines of this release and the devices they serve; an engine is one entry here and one module."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from monograph.errors import DeviceError

# Every graph precision, in any compute dtype of the engine; CPUs widen float16 first, which makes it the slowest.
_ANY_DTYPE: Mapping[str, str | None] = {"fp16": None, "fp32": None, "int8-weights": None, "int8": None}
_X86 = ("x86_64", "AMD64", "i386", "i686")


@dataclass(frozen=True)
class EngineEntry:
    """A kind of device and the engine that serves it.

    Attributes:
        kind: The device name up to the ":".
        engine: The engine's name.
        module: Has ``compute_dtypes(device)`` and ``create_engine(bundle, graph, options)``; imports no engine itself.
        package: The package to import, ``distribution`` the one to install, ``extra`` the extra that brings it.
        device_help: How its devices are named, for help texts.
        summary: Hardware and types, for the table of docs/how-to/choose-a-device.md.
        machines: The values of ``platform.machine()`` on which device="auto" considers it; empty for all.
        file: A pattern of a file that the package must contain, "" for none.
        precisions: The graph precisions it runs, the slowest first, each with the compute dtype that it implies, None
            where the engine decides.
        int8_dtypes: The compute dtypes in which int8 graphs are correct.
        min_cosine: For compute dtypes that round, the lowest correct cosine to the reference.
        fused_attention: Whether its float16 graphs use one attention operator that takes lengths.
        base_bytes: What its import, a first model and a first run allocate at least, beside the weights.
        bytes_per_thread: The same for each further thread.
        weights_share: The part of the weights that it allocates, or maps so that a limit counts it.
        mapped_bytes: Address space that it takes beside, at least, for its libraries and what it reserves.
        may_crash: Whether a damaged graph may end the process that opens it: a bundle is proven in another one first.

    """

    kind: str
    engine: str
    module: str
    package: str
    distribution: str
    extra: str
    device_help: str
    summary: str
    machines: tuple[str, ...] = ()
    file: str = ""
    precisions: Mapping[str, str | None] = field(default_factory=lambda: dict(_ANY_DTYPE))
    # Int8 graphs round between float32 layers: at bfloat16 OpenVINO 2026.4.1 gives wrong vectors at some lengths.
    int8_dtypes: tuple[str, ...] = ("float32",)
    # Narrow types are held to the direction of a vector, not to its values.
    min_cosine: Mapping[str, float] = field(default_factory=lambda: {"bfloat16": 0.999, "float16": 0.999})
    fused_attention: bool = False
    base_bytes: int = 0
    bytes_per_thread: int = 0
    weights_share: float = 0.0
    mapped_bytes: int = 0
    may_crash: bool = False

    def needed_address_space(self) -> int:
        """Return the address space that its first model takes beside what it allocates."""
        return 0 if self.package in sys.modules else self.mapped_bytes

    def needed_bytes(self, weights_bytes: int, threads: int) -> int:
        """Return what opening a graph with these weights allocates at least, and the first run after it."""
        base = 0 if self.package in sys.modules else self.base_bytes
        return base + (threads - 1) * self.bytes_per_thread + int(self.weights_share * weights_bytes)

    @property
    def installed(self) -> bool:
        """Whether the engine's package is installed; it is not imported."""
        spec = importlib.util.find_spec(self.package)
        # A folder left behind by an uninstall is a namespace package without origin.
        if spec is None or spec.origin is None:
            return False
        return not self.file or any(Path(spec.origin).parent.glob(self.file))

    @property
    def preferred_here(self) -> bool:
        """Whether device="auto" considers it on this machine."""
        return self.installed and (not self.machines or platform.machine() in self.machines)

    def load(self) -> ModuleType:
        """Import the engine's module, which does not import the engine yet."""
        return importlib.import_module(self.module)


# In the order of preference of device="auto".
_ENGINES: list[EngineEntry] = [
    EngineEntry(
        kind="cuda",
        engine="onnxruntime",
        module="monograph.engines.cuda",
        package="onnxruntime",
        distribution="onnxruntime-gpu",
        extra="cuda",
        device_help="cuda, cuda:N",
        summary="ONNX Runtime on NVIDIA GPUs: float32, float16",
        file="capi/*onnxruntime_providers_cuda*",
        precisions={"fp32": "float32", "fp16": "float16"},
        fused_attention=True,
    ),
    EngineEntry(
        kind="openvino",
        engine="openvino",
        module="monograph.engines.openvino",
        package="openvino",
        distribution="openvino",
        extra="openvino",
        device_help="openvino, openvino:NAME",
        summary="OpenVINO on x86 CPUs: float32, bfloat16, int8",
        machines=_X86,
        base_bytes=100_000_000,
        mapped_bytes=200_000_000,
        may_crash=True,
    ),
    EngineEntry(
        kind="cpu",
        engine="onnxruntime",
        module="monograph.engines.onnxruntime",
        package="onnxruntime",
        distribution="onnxruntime",
        extra="onnx",
        device_help="cpu",
        summary="ONNX Runtime on CPUs: float32, int8",
        base_bytes=26_000_000,
        mapped_bytes=40_000_000,
        bytes_per_thread=9_000_000,
        weights_share=1.08,
    ),
]


def register_engine(entry: EngineEntry) -> None:
    """Add an engine, or replace the one of its kind; device="auto" tries a new one last."""
    kinds = [known.kind for known in _ENGINES]
    if entry.kind in kinds:
        _ENGINES[kinds.index(entry.kind)] = entry
    else:
        _ENGINES.append(entry)


def engines() -> tuple[EngineEntry, ...]:
    """Return all engines, in the order of preference of device="auto"."""
    return tuple(_ENGINES)


def engine_for(device: object) -> EngineEntry:
    """Return the engine of a device.

    Raises:
        DeviceError: the device is not known, or its engine is not installed.

    """
    kind = device.partition(":")[0] if isinstance(device, str) else device
    for entry in _ENGINES:
        if entry.kind == kind:
            # Where a file is required, the engine's own module explains in detail what is missing.
            if not entry.installed and not entry.file:
                raise DeviceError(f"device {device!r} needs {entry.package}: pip install 'monograph[{entry.extra}]'")
            return entry
    known = ", ".join(repr(entry.kind) for entry in _ENGINES)
    raise DeviceError(
        f"device {device!r} is not known to this release; it has 'auto', {known}: for a GPU choose "
        "'cuda' or 'cuda:1' (NVIDIA), or 'openvino:GPU' (Intel)"
    )


def compute_dtype_names() -> tuple[str, ...]:
    """Return the values of ``compute_dtype``: "auto" and the types of all engines."""
    return ("auto", "float32", *dict.fromkeys(dtype for entry in _ENGINES for dtype in entry.min_cosine))


def device_help() -> str:
    """Return how devices are named, for help texts."""
    return ", ".join(entry.device_help for entry in reversed(_ENGINES))


def installed_devices() -> tuple[str, ...]:
    """Return the kinds of device whose engine is installed, the preferred first."""
    return tuple(entry.kind for entry in _ENGINES if entry.installed)


def automatic_devices() -> tuple[str, ...]:
    """Return the kinds of device that device="auto" tries on this machine, the preferred first.

    Raises:
        DeviceError: no engine is installed.

    """
    if not installed_devices():
        extras = " or ".join(f"pip install 'monograph[{entry.extra}]'" for entry in reversed(_ENGINES))
        raise DeviceError(f"no engine is installed: {extras}")
    return tuple(entry.kind for entry in _ENGINES if entry.preferred_here) or installed_devices()
