"""OpenVINO on CPUs; GPUs, NPUs and AUTO are untested."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch, padding_buckets_up_to
from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph, TokenizerSpec
from monograph.engines.base import Engine, EngineOptions
from monograph.engines.native import NativeObject, import_engine, is_raised_by
from monograph.engines.openvino_models import DTYPES, CompiledModel, Model, StaticModels, compile_graph, last_line_of
from monograph.engines.openvino_streams import Streams
from monograph.engines.signal_stack import enlarge_signal_stack
from monograph.errors import BundleError, DeviceError, MonographError
from monograph.forks import is_inherited

# The first that follows no link to external data out of the graph's folder.
_MIN_VERSION = (2026, 2)
_PACKAGE = "openvino"
_TELEMETRY = "openvino_telemetry"
TOKENS_PER_BATCH_AND_THREAD = 256
# For models as wide as LaBSE fewer are as fast, and 30 MB smaller; MiniLM would lose 2 to 5 % (docs/performance.md).
# The width is that of the output, so that a classifier counts as narrow and SPLADE as wide.
TOKENS_PER_BATCH_AND_THREAD_WHERE_WIDE = 192
_WIDE = 512
# Padding buckets of a model without a maximum length reach so far; longer texts run too.
_LONGEST_WITHOUT_LIMIT = 8192
# The softmax sums 16 values at a time: a text's last bits depend on whether its length reaches the next multiple of 16.
# Rounded to the levels of an int8 graph, they made a cosine of 0.9998 between a text alone and among longer ones.
_BUCKET_STEPS = {"int8": 16}
# Kernels cached of all shapes so far. With OpenVINO's default, 5,000, MiniLM grows by 0.4 MB for each new shape; with
# this one single texts of all lengths in turn are as fast.
_KERNEL_CACHE_SIZE = 100
# In each stream, and for wide models: compiling kernels again takes 1 to 2 % of the time there (docs/performance.md).
_SMALL_KERNEL_CACHE_SIZE = 60
# Calls of at least so many batches use a model of several streams, compiled on first use: its throughput is 8 to 22 %
# higher, and its weights are one more copy, so that models with larger layers do without. More than two streams were
# not measured.
_MANY_BATCHES = 16
# BERT-base's layers at int8 are 85 MB.
_MAX_WEIGHT_BYTES = 100_000_000
_MAX_STREAMS = 8
# An NPU compiles a model for each shape: these few lengths, one text at a time.
_STATIC_LENGTHS = (16, 32, 64, 128, 256, 512)
# Variables that have oneDNN print what it executes, and their values for no output.
_VERBOSE, _NOT_VERBOSE = ("ONEDNN_VERBOSE", "DNNL_VERBOSE"), ("", "0", "none")
# OpenVINO's names of a device's capabilities and the types they mean, the preferred first.
_CAPABILITIES = {
    "CPU": {"BF16": "bfloat16", "FP32": "float32"},
    "GPU": {"FP16": "float16", "FP32": "float32"},
    "NPU": {"FP16": "float16"},
}


def compute_dtypes(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in, the preferred first.

    Raises:
        DeviceError: OpenVINO does not see the device.

    """
    core = _core()
    target = _target(core, device)
    dtypes: dict[str, None] = {}
    for name in core.available_devices if target == "AUTO" else [target]:
        try:
            capabilities = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
        except Exception as error:
            if not is_raised_by(_PACKAGE, error):
                raise
            raise DeviceError(f"device 'openvino:{name}' cannot be used: {last_line_of(error)}") from error
        known = _CAPABILITIES.get(name.partition(".")[0], {"FP32": "float32"})
        dtypes.update(dict.fromkeys(dtype for capability, dtype in known.items() if capability in capabilities))
    return tuple(dtypes)


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    """Load a graph of the bundle on "openvino" (the CPU) or "openvino:NAME".

    Raises:
        DeviceError: OpenVINO does not see the device, or would compute in another type than requested.
        BundleError: OpenVINO cannot load the graph.

    """
    return OpenVinoEngine(bundle, graph, options)


class OpenVinoEngine(Engine):
    """A graph that OpenVINO compiled for a device."""

    name: ClassVar[str] = "openvino"

    def __init__(self, bundle: Bundle, graph: Graph, options: EngineOptions) -> None:
        core = _core()
        target = _target(core, options.device)
        self.graph = graph
        self.version = _version()
        wide = _is_wide(graph)
        config = _config(target, options, _SMALL_KERNEL_CACHE_SIZE if wide else _KERNEL_CACHE_SIZE)
        model, self.padding_buckets = _load_model(core, bundle, graph, target, config, options)
        self._model: NativeObject[Model] = NativeObject(model)
        self._streams: Streams | None = None
        weights = graph.parts.get("layers", math.inf) + graph.parts.get("head", 0)
        if target == "CPU" and options.threads > 1 and weights <= _MAX_WEIGHT_BYTES:
            several = {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": min(options.threads, _MAX_STREAMS),
                "CPU_RUNTIME_CACHE_CAPACITY": str(_SMALL_KERNEL_CACHE_SIZE),
            }
            self._streams = Streams(
                self._model,
                lambda: compile_graph(core, bundle, graph, target, config | several, options.cache),
            )
        self.device = f"openvino:{model.device}"
        self.compute_dtype = model.compute_dtype or options.compute_dtype
        self.threads = model.threads or options.threads
        self.max_concurrency = model.max_concurrency
        self.tokens_per_batch = self.threads * (
            TOKENS_PER_BATCH_AND_THREAD_WHERE_WIDE if wide else TOKENS_PER_BATCH_AND_THREAD
        )
        self._check_compiled(model, bundle, options)

    def _check_compiled(self, model: Model, bundle: Bundle, options: EngineOptions) -> None:
        """Refuse a graph that computes in another type than requested, or that is not what the manifest says."""
        if self.compute_dtype != options.compute_dtype:
            raise DeviceError(
                f"device {options.device!r} would compute in {self.compute_dtype}, not in the requested "
                f"{options.compute_dtype}: choose compute_dtype {self.compute_dtype!r} or 'auto'"
            )
        graph = self.graph
        if model.signature != {**graph.inputs, **graph.outputs}:
            raise BundleError(
                bundle.path, [f"{graph.file} has {model.signature}, the manifest {graph.inputs} and {graph.outputs}"]
            )

    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return an output, float32 [b, d] or [b, s, d]."""
        model = self._model.get()
        try:
            return model.infer(inputs, 0 if output is None else list(self.graph.outputs).index(output))
        except Exception as error:
            if not is_raised_by(_PACKAGE, error):
                raise
            shape = next(iter(inputs.values())).shape
            raise MonographError(
                f"OpenVINO failed on a batch of {shape[0]} texts and {shape[1]} tokens ({last_line_of(error)})"
            ) from error

    def stream(
        self, batches: Iterable[TokenBatch], output: str | None = None
    ) -> Iterator[tuple[TokenBatch, NDArray[np.float32]]]:
        """Run many batches, in parallel streams where there are enough, and yield each with its output.

        The streams give the graph's first output only.
        """
        if self._streams is None or output is not None:
            yield from super().stream(batches, output)
            return
        rest = iter(batches)
        first = list(islice(rest, _MANY_BATCHES))
        if len(first) < _MANY_BATCHES:
            yield from super().stream(first)
            return
        # Raises where the model was closed or forked, before anything else is compiled.
        self._model.get()
        try:
            yield from self._streams.run(chain(first, rest))
        except Exception as error:
            if not is_raised_by(_PACKAGE, error):
                raise
            raise MonographError(f"OpenVINO failed on many batches at once ({last_line_of(error)})") from error

    def close(self) -> None:
        """Free the compiled models."""
        self._model.release()
        if self._streams is not None:
            self._streams.close()


def _load_model(
    core: Any, bundle: Bundle, graph: Graph, target: str, config: dict[str, Any], options: EngineOptions
) -> tuple[Model, NDArray[np.int64]]:
    """Return a graph compiled for a device, and the lengths that texts are padded to, int64 [k]."""
    limit = max(map(_longest, bundle.manifest.graph_tokenizers(graph)))
    names = [*graph.inputs, *graph.outputs]
    try:
        if target.partition(".")[0] == "NPU":
            lengths = _static_lengths(limit)
            return StaticModels(core, bundle.path / graph.file, names, target, config, lengths), lengths
        # Every new shape costs time, and memory while its kernels are cached, so there are few.
        buckets = padding_buckets_up_to(limit, _BUCKET_STEPS.get(graph.precision, 1))
        return CompiledModel(compile_graph(core, bundle, graph, target, config, options.cache), names), buckets
    except Exception as error:
        if not is_raised_by(_PACKAGE, error):
            raise
        raise BundleError(
            bundle.path, [f"OpenVINO {_version()} cannot load {graph.file} ({last_line_of(error)})"]
        ) from error


def _version() -> str:
    return str(import_openvino().__version__.split("-")[0])


def _longest(tokenizer: TokenizerSpec) -> int:
    expanded = 0 if tokenizer.expansion is None else tokenizer.expansion.length
    return max(tokenizer.max_length or _LONGEST_WITHOUT_LIMIT, expanded)


def _is_wide(graph: Graph) -> bool:
    return max(axis for spec in graph.outputs.values() for axis in spec.shape if isinstance(axis, int)) >= _WIDE


def import_openvino() -> ModuleType:
    """Import openvino without its telemetry.

    Importing it sends an event over the network and leaves a file in the home directory unless the package
    openvino_telemetry cannot be imported, for which OpenVINO has a stand-in of its own.

    Raises:
        DeviceError: the installed version is too old, or cannot be loaded.

    """
    # The entry None makes its import fail.
    silenced = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
    if silenced:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return import_engine(_PACKAGE, _MIN_VERSION, "openvino")
    finally:
        if silenced:
            # Another thread may have removed it already.
            sys.modules.pop(_TELEMETRY, None)


@functools.cache
def _first_process() -> int | None:
    """Return the process that started OpenVINO first; None where another library had, before a fork."""
    return None if is_inherited("openvino") else os.getpid()


@functools.cache
def _started() -> Any:
    openvino = import_openvino()
    try:
        core = openvino.Core()
        # Loads the plugin of the CPU, which every package of OpenVINO has, in this thread.
        core.get_property("CPU", "FULL_DEVICE_NAME")
    except Exception as error:
        if not is_raised_by(_PACKAGE, error):
            raise
        raise DeviceError(f"OpenVINO cannot start ({last_line_of(error)}): reinstall openvino") from error
    enlarge_signal_stack()
    return core


def _core() -> Any:
    """Return the process's one Core; raise ``DeviceError`` where OpenVINO cannot run in this process."""
    for name in _VERBOSE:
        if os.environ.get(name, "0") not in _NOT_VERBOSE:
            # With two threads, openvino 2026.4.1 then fails on most batches and mixes up the shapes of others.
            raise DeviceError(f"OpenVINO does not run right while {name} is set: unset it, or choose device 'cpu'")
    # Noted before it is started: a fork may come between.
    if _first_process() != os.getpid():
        # Its threads are gone, which it does not notice: it hangs, or runs on one thread.
        raise DeviceError(
            "OpenVINO was started before this process was forked and cannot run in it: open the first model in the "
            "worker, or start the workers with 'spawn'"
        )
    return _started()


def _target(core: Any, device: str) -> str:
    """Return OpenVINO's name of a device: "CPU" for "openvino"."""
    _, colon, name = device.partition(":")
    name = name if colon else "CPU"
    available = core.available_devices
    # "GPU" is the first of several, which is listed as GPU.0.
    if name != "AUTO" and name not in {*available, *(listed.partition(".")[0] for listed in available)}:
        # AUTO would be the CPU again where there is nothing else.
        others = ["AUTO"] if len(available) > 1 else []
        known = ", ".join(f"'openvino:{listed}'" for listed in [*available, *others])
        raise DeviceError(
            f"device {device!r} is not seen by OpenVINO on this machine, which has {known}: install the device's "
            "driver, or choose one of these"
        )
    return name


def _config(target: str, options: EngineOptions, kernel_cache_size: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": DTYPES[options.compute_dtype],
    }
    if target == "CPU":
        config |= {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": str(kernel_cache_size),
            # Its default rounds to int8 what is multiplied with int8 weights.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            # Two processes would pin their threads to the same cores and leave others idle.
            "ENABLE_CPU_PINNING": False,
        }
    return config


def _static_lengths(limit: int) -> NDArray[np.int64]:
    return np.array([*(length for length in _STATIC_LENGTHS if length < limit), limit], dtype=np.int64)
