"""ONNX Runtime on NVIDIA GPUs. It was written without one: what runs on a GPU has not been measured."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines.base import Engine, EngineOptions
from monograph.engines.cuda_libraries import (
    find_driver_problems,
    find_library_problems,
    find_package_problems,
    read_cuda_major,
)
from monograph.engines.native import NativeObject, is_raised_by
from monograph.engines.onnxruntime import PACKAGE, check_signature, import_onnxruntime, open_session, session_options
from monograph.errors import BundleError, DeviceError, MonographError, first_line

logger = logging.getLogger(__name__)
_PROVIDER = "CUDAExecutionProvider"
# Padded tokens of a batch. Not measured: a GPU needs far more than a CPU to be busy.
_TOKENS_PER_BATCH = 32_768
_MIN_TOKENS_PER_BATCH = 512
# Messages of ONNX Runtime's allocator, without and with a limit, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = (
    *("failed to allocate memory", "is smaller than requested bytes"),
    *("out of memory", "cublas_status_alloc_failed"),
)
# Operators on shapes and positions, which ONNX Runtime may place on the CPU; all others compute vectors.
_SHAPE_OPERATORS = frozenset(
    (
        *("Shape", "Size", "Range", "ConstantOfShape", "Constant", "Identity", "Expand", "Concat", "Unsqueeze"),
        *("Squeeze", "Slice", "Gather", "Reshape", "Cast", "Add", "Sub", "Mul", "Div", "Equal", "Where"),
    )
)


class OutOfMemoryError(MonographError):
    """The device has no memory for a batch."""


def compute_dtypes(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in; the graph's own decides among them.

    Raises:
        DeviceError: with everything that CUDA lacks here and its fix, or the device is no valid name.

    """
    _parse_number(device)
    runtime = None if importlib.util.find_spec(PACKAGE) is None else import_onnxruntime()
    problems = find_package_problems(runtime)
    # Without CUDA in the package there are no libraries to look for.
    if runtime is not None and not problems:
        problems = find_library_problems(runtime)
    problems += find_driver_problems(None if runtime is None else read_cuda_major(runtime))
    if problems:
        raise DeviceError(f"device {device!r} cannot run here: {'; '.join(problems)}")
    return ("float16", "float32")


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    """Load a graph of the bundle on "cuda" or "cuda:N".

    Raises:
        DeviceError: the GPU cannot be used, or ONNX Runtime would compute part of the graph on the CPU.
        BundleError: ONNX Runtime cannot load the graph.

    """
    return CudaEngine(bundle, graph, options)


class CudaEngine(Engine):
    """An ONNX Runtime session on a GPU, in the types that the graph has."""

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, bundle: Bundle, graph: Graph, options: EngineOptions) -> None:
        runtime = import_onnxruntime()
        number = _parse_number(options.device)
        self.graph = graph
        self.device = "cuda" if number == 0 else f"cuda:{number}"
        self.compute_dtype = options.compute_dtype
        self.threads = options.threads
        self.version = str(runtime.__version__)
        self.tokens_per_batch = _TOKENS_PER_BATCH
        self._output = next(iter(graph.outputs))
        session = _open(runtime, bundle, graph, options.threads, number)
        if problem := find_cpu_fallback(session):
            raise DeviceError(f"device {options.device!r}: {problem}")
        self._session = NativeObject(session)
        # Waiting callers hold no GPU memory.
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return an output, float32 [b, d] or [b, s, d].

        Where GPU memory does not suffice, the batch is run in halves and later calls get smaller batches.
        """
        rows, length = next(iter(inputs.values())).shape
        try:
            return self._run(inputs, output)
        except OutOfMemoryError:
            if rows < 2:
                raise
        # Outside the handler, whose traceback holds the memory of the failed run.
        self._shrink_batches(rows * length)
        half = rows // 2
        parts = ({name: values[part] for name, values in inputs.items()} for part in (slice(half), slice(half, rows)))
        return np.concatenate([self.run(part, output) for part in parts])

    def close(self) -> None:
        """Free the session and its memory on the GPU."""
        self._session.release()

    def _run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None) -> NDArray[np.float32]:
        session: Any = self._session.get()
        try:
            with self._lock:
                return np.asarray(session.run([output or self._output], dict(inputs))[0], dtype=np.float32)
        except Exception as error:
            if not is_raised_by(PACKAGE, error):
                raise
            rows, width = next(iter(inputs.values())).shape
            raise (OutOfMemoryError if states_out_of_memory(str(error)) else MonographError)(
                f"ONNX Runtime failed on {self.device!r} with a batch of {rows} texts and {width} tokens "
                f"({first_line(error)})"
            ) from error

    def _shrink_batches(self, failed_tokens: int) -> None:
        if self.tokens_per_batch == _TOKENS_PER_BATCH:
            logger.warning("%s has too little free memory: batches become smaller", self.device)
        self.tokens_per_batch = max(_MIN_TOKENS_PER_BATCH, min(self.tokens_per_batch, failed_tokens // 2))


def states_out_of_memory(message: str) -> bool:
    """Return whether a message of ONNX Runtime says that the device's memory does not suffice."""
    return any(words in message.lower() for words in _OUT_OF_MEMORY)


def find_cpu_fallback(session: Any) -> str:
    """Return which operators of a session's graph would run on the CPU, shapes and positions aside; "" for none.

    ONNX Runtime falls back to the CPU silently; the session must be opened to record where each node went.
    """
    if _PROVIDER not in session.get_providers():
        return "ONNX Runtime cannot start CUDA, and would compute on the CPU: check the GPU with nvidia-smi"
    counts = sorted(count_operators_elsewhere(session, _PROVIDER).items())
    operators = ", ".join(f"{count} {kind}" for kind, count in counts)
    return f"ONNX Runtime would compute {operators} of the graph on the CPU: choose another device" if counts else ""


def count_operators_elsewhere(session: Any, provider: str) -> dict[str, int]:
    """Return how many operators of each kind other providers run, those on shapes and positions aside."""
    parts = session.get_provider_graph_assignment_info()
    kinds = [node.op_type for part in parts if part.ep_name != provider for node in part.get_nodes()]
    return dict(Counter(kind for kind in kinds if kind not in _SHAPE_OPERATORS))


def _open(runtime: ModuleType, bundle: Bundle, graph: Graph, threads: int, number: int) -> Any:
    options = session_options(runtime, threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    on_gpu = {
        "device_id": str(number),
        # TF32 rounds products of float32 to 10 bits.
        "use_tf32": "0",
        # The default doubles the arena each time it grows.
        "arena_extend_strategy": "kSameAsRequested",
    }
    try:
        providers = [(_PROVIDER, on_gpu), "CPUExecutionProvider"]
        session = open_session(runtime, bundle.path / graph.file, options, providers)
        check_signature(session, bundle, graph)
    except Exception as error:
        if not is_raised_by(PACKAGE, error):
            raise
        raise BundleError(
            bundle.path, [f"ONNX Runtime {runtime.__version__} cannot load {graph.file} on a GPU ({first_line(error)})"]
        ) from error
    return session


def _parse_number(device: str) -> int:
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()) or device == "cuda:":
        raise DeviceError(f"device {device!r} is not known: name a GPU by its number, as 'cuda' or 'cuda:1'")
    return int(number or 0)
