"""ONNX Runtime on NVIDIA GPUs. It was written without one: what runs on a GPU has not been measured."""

from __future__ import annotations

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
from monograph.engines.cuda_libraries import cuda_major, missing_driver, missing_libraries, missing_packages
from monograph.engines.halving import OutOfMemoryError, in_halves
from monograph.engines.native import NativeObject
from monograph.engines.onnxruntime import check_signature, import_onnxruntime, session_options
from monograph.errors import BundleError, DeviceError, MonographError, first_line

logger = logging.getLogger(__name__)

_PROVIDER = "CUDAExecutionProvider"
# Padded tokens of a batch. Not measured: a GPU needs far more than a CPU to be busy.
_TOKENS_PER_BATCH = 32_768
_FEWEST_TOKENS = 512
# In the words of ONNX Runtime's allocator, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "cublas_status_alloc_failed")
# What ONNX Runtime may compute on the CPU by its own choice: shapes and positions are made of these. All else is of
# vectors.
_OF_SIZES = frozenset(
    (
        *("Shape", "Size", "Range", "ConstantOfShape", "Constant", "Identity", "Expand", "Concat", "Unsqueeze"),
        *("Squeeze", "Slice", "Gather", "Reshape", "Cast", "Add", "Sub", "Mul", "Div", "Equal", "Where"),
    )
)


def compute_dtypes(device: str) -> tuple[str, ...]:
    """Return the types that a device multiplies in; of these a graph decides by its own.

    Raises:
        DeviceError: with everything that CUDA lacks here and what to do about it, or the device has no such number.

    """
    _number(device)
    # One after the other, for a library is not looked for where its package is missing.
    runtime = None
    missing = missing_packages()
    if not missing:
        runtime = import_onnxruntime()
        missing = missing_libraries(runtime)
    missing += missing_driver(None if runtime is None else cuda_major(runtime))
    if missing:
        raise DeviceError(f"device {device!r} cannot run here: {'; '.join(missing)}")
    return ("float16", "float32")


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    """Load a graph of the bundle on "cuda" or "cuda:" and the number of a GPU.

    Raises:
        DeviceError: the GPU cannot be had, or ONNX Runtime would compute part of the graph on the CPU.
        BundleError: ONNX Runtime cannot load the graph.

    """
    return CudaEngine(bundle, graph, options)


class CudaEngine(Engine):
    """An ONNX Runtime session on a GPU, in the types that the graph has."""

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, bundle: Bundle, graph: Graph, options: EngineOptions) -> None:
        runtime = import_onnxruntime()
        number = _number(options.device)
        self.graph = graph
        self.device = "cuda" if number == 0 else f"cuda:{number}"
        self.compute_dtype = options.compute_dtype
        self.threads = options.threads
        self.version = str(runtime.__version__)
        self.tokens_per_batch = _TOKENS_PER_BATCH
        self._outputs = list(graph.outputs)
        session = _open(runtime, bundle, graph, options.threads, number)
        check_signature(session, bundle, graph)
        if problem := not_on_gpu(session):
            raise DeviceError(f"device {options.device!r}: {problem}")
        self._session = NativeObject(session)
        # Of one GPU callers take turns; who waits here holds none of its memory.
        self._turn = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return float32 [b, d].

        One that the GPU has no memory for is run in two halves, and those of later calls are planned smaller.
        """
        return in_halves(self._run, inputs, self._plan_smaller)

    def close(self) -> None:
        """Free the session and its memory on the GPU."""
        self._session.release()

    def _run(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        session: Any = self._session.get()
        try:
            with self._turn:
                return np.asarray(session.run(self._outputs, dict(inputs))[0], dtype=np.float32)
        except Exception as error:
            rows, width = next(iter(inputs.values())).shape
            kind = OutOfMemoryError if any(words in str(error).lower() for words in _OUT_OF_MEMORY) else MonographError
            raise kind(
                f"ONNX Runtime failed on {self.device!r} with a batch of {rows} texts and {width} tokens "
                f"({first_line(error)})"
            ) from error

    def _plan_smaller(self, too_many: int) -> None:
        if self.tokens_per_batch == _TOKENS_PER_BATCH:
            logger.warning("%s has too little free memory: batches become smaller", self.device)
        self.tokens_per_batch = max(_FEWEST_TOKENS, min(self.tokens_per_batch, too_many // 2))


def not_on_gpu(session: Any) -> str:
    """Return what of a session's graph is not computed on the GPU, "" for nothing but sizes and places.

    ONNX Runtime says of no such node that it fell back to the CPU; ``session`` was opened to record where each went.
    """
    if _PROVIDER not in session.get_providers():
        return "ONNX Runtime cannot start CUDA, and would compute on the CPU: check the GPU with nvidia-smi"
    computed = ", ".join(f"{count} {kind}" for kind, count in sorted(computed_elsewhere(session, _PROVIDER).items()))
    return f"ONNX Runtime would compute {computed} of the graph on the CPU: choose another device" if computed else ""


def computed_elsewhere(session: Any, provider: str) -> dict[str, int]:
    """Return how many operators of each kind a session gave to other providers, but for those of sizes."""
    parts = session.get_provider_graph_assignment_info()
    kinds = [node.op_type for part in parts if part.ep_name != provider for node in part.get_nodes()]
    return dict(Counter(kind for kind in kinds if kind not in _OF_SIZES))


def _open(runtime: ModuleType, bundle: Bundle, graph: Graph, threads: int, number: int) -> Any:
    options = session_options(runtime, threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    on_gpu = {
        "device_id": str(number),
        # Products of float32 would be rounded to 10 bits.
        "use_tf32": "0",
        # By itself it doubles what it holds at every growth.
        "arena_extend_strategy": "kSameAsRequested",
    }
    try:
        return runtime.InferenceSession(
            str(bundle.path / graph.file), options, providers=[(_PROVIDER, on_gpu), "CPUExecutionProvider"]
        )
    except Exception as error:
        raise BundleError(
            bundle.path, [f"ONNX Runtime {runtime.__version__} cannot load {graph.file} on a GPU ({first_line(error)})"]
        ) from error


def _number(device: str) -> int:
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()) or device == "cuda:":
        raise DeviceError(f"device {device!r} is not known: name a GPU by its number, as 'cuda' or 'cuda:1'")
    return int(number or 0)
