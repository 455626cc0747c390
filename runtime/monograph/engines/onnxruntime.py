"""ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine, EngineOptions
from monograph.engines.native import NativeObject, import_engine, is_raised_by
from monograph.engines.packed_weights import (
    PACKED_FOLDER,
    PACKED_NOT_USED,
    find_packed_graph,
    packed_weights_name,
    write_packed_weights,
)
from monograph.engines.slots import Slots
from monograph.errors import BundleError, DeviceError, MonographError, first_line

logger = logging.getLogger(__name__)
PACKAGE = "onnxruntime"
# The first that refuses external data outside of the graph's folder, and behind links.
_MIN_VERSION = (1, 24)
# What a run costs besides its tokens: with two threads as much as 24 tokens (docs/performance.md).
RUN_COST_PER_THREAD = 12
# Larger batches fall out of the CPU's cache and hold more memory. With two threads 512 tokens were as fast as 1,024
# (MiniLM) or faster (LaBSE, 5 %), 2,048 were 5 to 10 % slower; more threads were not measured.
TOKENS_PER_BATCH_AND_THREAD = 256
# The fused operators are slower than those they replace: 5 to 10 % at float32, 20 % at int8 (docs/performance.md).
_SLOWER_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")
# It would transpose the layers' weights, stored as [out, in], into heap copies that are never freed. Without it the
# matrix products pack them from the file, transposed. In traced graphs the export has already folded everything else
# that depends on weights alone.
_COPYING = "ConstantFolding"
# Where weights alone are int8, it widens them once, when the session opens, to products of float32. Left int8 they are
# widened at every run, or multiplied with inputs that are rounded to blocks of int8 (docs/explanation/int8.md).
_WIDENED = "int8-weights"
_DTYPES = {"tensor(int64)": "int64", "tensor(float)": "float32"}


def compute_dtypes(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in, the preferred first; raise ``DeviceError`` unless it is "cpu"."""
    if device != "cpu":
        raise DeviceError(f"device {device!r} is not known: ONNX Runtime has one CPU, 'cpu'")
    return ("float32",)


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    """Load a graph of the bundle on "cpu".

    Raises:
        DeviceError: the installed version is too old.
        BundleError: ONNX Runtime cannot load the graph.

    """
    return OnnxRuntimeEngine(bundle, graph, options.threads, options.cache, packed_only=options.packed_only)


class OnnxRuntimeEngine(Engine):
    """An ONNX Runtime session on the CPU.

    The weights are memory-mapped, and so are the packed ones where ``prepare`` has written them to ``cache``.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(
        self, bundle: Bundle, graph: Graph, threads: int, cache: Path | None = None, *, packed_only: bool = False
    ) -> None:
        runtime = import_onnxruntime()
        self.graph = graph
        self.device = "cpu"
        self.compute_dtype = "float32"
        self.threads = threads
        self.version = str(runtime.__version__)
        self.tokens_per_batch = TOKENS_PER_BATCH_AND_THREAD * threads
        self.run_cost = RUN_COST_PER_THREAD * threads
        self.max_concurrency = threads
        # What is not requested is computed, but not copied.
        self._output = next(iter(graph.outputs))
        self._file = bundle.path / graph.file
        # Dynamically quantized graphs come from an ONNX file: with the fusions of that file they round as it does.
        copying = () if graph.precision == _WIDENED else (_COPYING,)
        self._disabled = () if graph.max_batch_size == 1 else (*_SLOWER_FUSIONS, *copying)
        self._packed = Path(PACKED_FOLDER) / packed_weights_name(bundle, graph, self.version, self._disabled)
        session = None if cache is None else self._open_packed(runtime, bundle, cache / self._packed)
        self._maps_packed = session is not None
        if packed_only and not self._maps_packed:
            raise DeviceError(f"{PACKED_NOT_USED}: those of {graph.file} cannot be loaded")
        session = session or self._open(runtime, bundle)
        self._session = NativeObject(session)
        # Frees the memory of batches larger than planned, which the arena would hold for good.
        self._shrinking = runtime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        # More callers than threads would not be faster, and each would need buffers.
        self._slots = Slots(range(self.max_concurrency))

    def prepare(self, cache: Path) -> Path | None:
        """Write the graph with packed weights to a cache folder, unless this engine runs from them already."""
        if not self._maps_packed:
            runtime = import_onnxruntime()
            options = self._session_options(runtime)
            opened = partial(open_session, runtime, self._file, options, ["CPUExecutionProvider"], self._disabled)
            write_packed_weights(opened, self._file, cache / self._packed, options, self.version)
        return self._packed

    def _open_packed(self, runtime: ModuleType, bundle: Bundle, folder: Path) -> Any:
        """Open a session of the packed weights in a folder, None where there are none or they cannot be loaded."""
        file = find_packed_graph(folder)
        if file is None:
            return None
        options = self._session_options(runtime)
        # The file is optimized already.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = open_session(runtime, file, options, ["CPUExecutionProvider"])
            check_signature(session, bundle, self.graph)
        # The bundle's own graph is the fallback.
        except Exception as error:
            if not isinstance(error, BundleError) and not is_raised_by(PACKAGE, error):
                raise
            logger.warning("%s: remove %s (%s)", PACKED_NOT_USED, file.parent, first_line(error))
            return None
        return session

    def _session_options(self, runtime: ModuleType) -> Any:
        options = session_options(runtime, self.threads)
        if self.graph.precision == _WIDENED:
            # Otherwise the folding leaves out DequantizeLinear, which other optimizers look for.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        return options

    def _open(self, runtime: ModuleType, bundle: Bundle) -> Any:
        options = self._session_options(runtime)
        try:
            session = open_session(runtime, self._file, options, ["CPUExecutionProvider"], self._disabled)
            check_signature(session, bundle, self.graph)
        except Exception as error:
            if not is_raised_by(PACKAGE, error):
                raise
            raise BundleError(
                bundle.path, [f"ONNX Runtime {self.version} cannot load {self._file.name} ({first_line(error)})"]
            ) from error
        return session

    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return an output, float32 [b, d] or [b, s, d]."""
        session = self._session.get()
        shape = next(iter(inputs.values())).shape
        options = self._shrinking if math.prod(shape) > self.tokens_per_batch else None
        try:
            lock, _ = self._slots.choose()
            with lock:
                return np.asarray(session.run([output or self._output], dict(inputs), options)[0], dtype=np.float32)
        except Exception as error:
            if not is_raised_by(PACKAGE, error):
                raise
            raise MonographError(
                f"ONNX Runtime failed on a batch of {shape[0]} texts and {shape[1]} tokens ({first_line(error)})"
            ) from error

    def close(self) -> None:
        """Free the session."""
        self._session.release()


def open_session(
    runtime: ModuleType, file: Path, options: Any, providers: Sequence[object], disabled: Sequence[str] = ()
) -> Any:
    """Open a session of a graph's file; ``disabled`` are the optimizers that are off."""
    return runtime.InferenceSession(
        str(file),
        options,
        providers=providers,
        disabled_optimizers=disabled,
        # At any RuntimeError or ValueError, one of a caller's signal handler too, it would open the file again.
        enable_fallback=0,
        # A variable of the environment would have it read options from the graph.
        read_config_from_model=0,
    )


def check_signature(session: Any, bundle: Bundle, graph: Graph) -> None:
    """Raise ``BundleError`` unless the session's inputs and outputs are those of the manifest."""
    values = {value.name: value for value in (*session.get_inputs(), *session.get_outputs())}
    specs = {**graph.inputs, **graph.outputs}
    if set(values) != set(specs):
        raise BundleError(
            bundle.path, [f"{graph.file} has {', '.join(sorted(values))}, the manifest {', '.join(sorted(specs))}"]
        )
    for name, spec in specs.items():
        value = values[name]
        if _DTYPES.get(value.type) != spec.dtype or len(value.shape) != len(spec.shape):
            raise BundleError(bundle.path, [f"{graph.file}: {name} is {value.type} {value.shape}, not {spec}"])
        if name in graph.outputs and value.shape[-1] != spec.shape[-1]:
            raise BundleError(
                bundle.path, [f"{graph.file}: {name} has {value.shape[-1]} columns, not {spec.shape[-1]}"]
            )


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off.

    Its Linux wheels send usage data by default since 1.29; only the variable, set before the first import,
    stops all of it.

    Raises:
        DeviceError: the installed version is too old, or cannot be loaded.

    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    onnxruntime = import_engine("onnxruntime", _MIN_VERSION, "cpu")
    # The variable is too late where the application imported it before us.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def session_options(runtime: ModuleType, threads: int) -> Any:
    """Return the session options common to all devices."""
    options = runtime.SessionOptions()
    # ORT's default is the host's cores, regardless of affinity mask and container.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena reuses buffers from batch to batch: 5 % (float32) to 13 % (int8) faster than allocating every time.
    options.enable_cpu_mem_arena = True
    # A memory pattern is one more plan and one more large block for every new shape: without it LaBSE's anonymous
    # memory stayed at 548 MB where it had varied up to 617, at the same speed.
    options.enable_mem_pattern = False
    # Threads spin during a run, for latency, and sleep after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Otherwise float32 values that are multiplied with int8 weights are rounded to blocks of int8 too.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # What it logs as an error it also raises, and an error is one line.
    options.log_severity_level = 4
    return options
