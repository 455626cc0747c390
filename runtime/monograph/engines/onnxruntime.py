"""ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine, EngineOptions
from monograph.engines.native import NativeObject
from monograph.engines.packed_weights import packed_folder, packed_graph, write_packed
from monograph.errors import BundleError, DeviceError, MonographError, first_line

logger = logging.getLogger(__name__)
_MINIMUM_VERSION = (1, 23)
# Larger batches fall out of the cache and hold more memory. With two threads 512 tokens were as fast as 1,024 (MiniLM)
# or faster (LaBSE, 5 %), 2,048 were 5 to 10 % slower; more threads were not measured.
TOKENS_PER_BATCH_AND_THREAD = 256
# The fused operators are slower than those that they replace: 5 to 10 % at float32, 20 % at int8 (docs/performance.md).
_SLOWER_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")
# It would transpose the layers' weights, which the graph has as [out, in], into copies whose place in the heap is not
# given back. Without it the products take them transposed and pack them from the file. In graphs that
# were traced, all else that depends on weights alone was folded at the export.
_COPYING = "ConstantFolding"
_DTYPES = {"tensor(int64)": "int64", "tensor(float)": "float32"}


def compute_dtypes(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in, the preferred first.

    Raises:
        DeviceError: the device has an index or a name.

    """
    if device != "cpu":
        raise DeviceError(f"device {device!r} is not known: ONNX Runtime has one CPU, 'cpu'")
    return ("float32",)


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    """Load a graph of the bundle on "cpu".

    Raises:
        DeviceError: the installed version is too old.
        BundleError: ONNX Runtime cannot load the graph.

    """
    return OnnxRuntimeEngine(bundle, graph, options.threads, options.cache)


class OnnxRuntimeEngine(Engine):
    """An ONNX Runtime session on the CPU; the weights stay in the file, mapped into memory.

    What its kernels make of them is mapped too, where ``prepare`` has kept that in the ``cache``.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, bundle: Bundle, graph: Graph, threads: int, cache: Path | None = None) -> None:
        runtime = import_onnxruntime()
        self.graph = graph
        self.device = "cpu"
        self.compute_dtype = "float32"
        self.threads = threads
        self.version = str(runtime.__version__)
        self.tokens_per_batch = TOKENS_PER_BATCH_AND_THREAD * threads
        self.max_concurrency = threads
        self._outputs = list(graph.outputs)
        self._file = bundle.path / graph.file
        # A graph that finds its ranges as it runs was a file of its own: fused as that is, it rounds alike.
        self._disabled = () if graph.max_batch_size == 1 else (*_SLOWER_FUSIONS, _COPYING)
        self._packed = None if cache is None else packed_folder(cache, bundle, graph, self.version, self._disabled)
        session = self._open_packed(runtime) or self._open(runtime, bundle)
        check_signature(session, bundle, graph)
        self._session = NativeObject(session)
        # What a larger batch than planned needed is given back, for the arena would keep it for good.
        self._giving_back = runtime.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        # Callers beyond the threads would only take turns, each with buffers of its own.
        self._turns = threading.Semaphore(self.max_concurrency)

    def prepare(self) -> Path | None:
        """Write the graph with packed weights, which the next engine of it maps."""
        if self._packed is not None and packed_graph(self._packed) is None:
            runtime = import_onnxruntime()
            write_packed(runtime, self._file, self._packed, session_options(runtime, self.threads), self._disabled)
        return self._packed

    def _open_packed(self, runtime: ModuleType) -> Any:
        """Open the session of packed weights, None where there are none or they cannot be loaded."""
        file = None if self._packed is None else packed_graph(self._packed)
        if file is None:
            return None
        options = session_options(runtime, self.threads)
        # It was written as the optimisers left it.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        # Of any class; the bundle's own file is there.
        except Exception as error:  # noqa: BLE001
            logger.warning("packed weights are left alone: remove %s (%s)", file.parent, first_line(error))
            return None

    def _open(self, runtime: ModuleType, bundle: Bundle) -> Any:
        try:
            return runtime.InferenceSession(
                str(self._file),
                session_options(runtime, self.threads),
                providers=["CPUExecutionProvider"],
                disabled_optimizers=self._disabled,
            )
        except Exception as error:
            raise BundleError(
                bundle.path, [f"ONNX Runtime {self.version} cannot load {self._file.name} ({first_line(error)})"]
            ) from error

    def run(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return float32 [b, d]."""
        session = self._session.get()
        shape = next(iter(inputs.values())).shape
        options = self._giving_back if math.prod(shape) > self.tokens_per_batch else None
        try:
            with self._turns:
                return np.asarray(session.run(self._outputs, dict(inputs), options)[0], dtype=np.float32)
        except Exception as error:
            raise MonographError(
                f"ONNX Runtime failed on a batch of {shape[0]} texts and {shape[1]} tokens ({first_line(error)})"
            ) from error

    def close(self) -> None:
        """Free the session."""
        self._session.release()


def check_signature(session: Any, bundle: Bundle, graph: Graph) -> None:
    """Compare names, types and the last axis of what the graph takes and gives with the manifest."""
    found = {value.name: value for value in (*session.get_inputs(), *session.get_outputs())}
    stated = {**graph.inputs, **graph.outputs}
    if set(found) != set(stated):
        raise BundleError(
            bundle.path, [f"{graph.file} has {', '.join(sorted(found))}, the manifest {', '.join(sorted(stated))}"]
        )
    for name, spec in stated.items():
        value = found[name]
        if _DTYPES.get(value.type) != spec.dtype or len(value.shape) != len(spec.shape):
            raise BundleError(bundle.path, [f"{graph.file}: {name} is {value.type} {value.shape}, not {spec}"])
    for name, spec in graph.outputs.items():
        if found[name].shape[-1] != spec.shape[-1]:
            raise BundleError(
                bundle.path, [f"{graph.file}: {name} has {found[name].shape[-1]} columns, not {spec.shape[-1]}"]
            )


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off.

    Its Linux wheels send usage data by default since 1.29; only the variable, set before the first import,
    stops all of it.

    Raises:
        DeviceError: the installed version is too old, or cannot be loaded.

    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime

        # Where the application imported it before us, the variable came too late.
        onnxruntime.disable_telemetry_events()
    except Exception as error:
        raise DeviceError(
            f"onnxruntime is installed and cannot be loaded ({first_line(error)}): reinstall it"
        ) from error
    found = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if found < _MINIMUM_VERSION:
        needed = ".".join(map(str, _MINIMUM_VERSION))
        raise DeviceError(
            f"device 'cpu' needs onnxruntime>={needed}, found {onnxruntime.__version__}: "
            "pip install --upgrade onnxruntime"
        )
    return onnxruntime  # type: ignore[no-any-return]


def session_options(runtime: ModuleType, threads: int) -> Any:
    """Return the options that sessions on any device have, with a number of CPU threads."""
    options = runtime.SessionOptions()
    # Left to itself ORT counts the host's cores, whatever affinity mask and container say.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena keeps its buffers from one batch to the next: 5 % (float32) to 13 % (int8) faster than anew every time.
    options.enable_cpu_mem_arena = True
    # A memory pattern is one more plan and one more large block for every new shape: without it LaBSE's anonymous
    # memory stayed at 548 MB where it had gone up and down to 617, at the same speed.
    options.enable_mem_pattern = False
    # Threads spin while a run lasts, for latency, and sleep once it is over.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A product of float32 values with weights that are stored as int8 would round the values too, to blocks of int8.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    options.log_severity_level = 3
    return options
