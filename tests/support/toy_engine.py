"""An engine from outside the package: ONNX Runtime once more, under a device of its own, with nothing tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.engines import Engine, EngineEntry, EngineOptions
from monograph.engines.onnxruntime import import_onnxruntime

ENTRY = EngineEntry(
    kind="toy",
    engine="toy-runtime",
    module="support.toy_engine",
    package="onnxruntime",
    distribution="onnxruntime",
    extra="onnx",
    device_help="toy",
    summary="a toy",
)


def compute_dtypes(device: str) -> tuple[str, ...]:
    return ("float32",)


def create_engine(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
    return ToyEngine(bundle, graph, options)


class ToyEngine(Engine):
    name: ClassVar[str] = "toy-runtime"

    def __init__(self, bundle: Bundle, graph: Graph, options: EngineOptions) -> None:
        runtime = import_onnxruntime()
        self.graph = graph
        self.device = "toy"
        self.compute_dtype = options.compute_dtype
        self.threads = options.threads
        self.version = "1"
        self.tokens_per_batch = 512
        self._session = runtime.InferenceSession(str(bundle.path / graph.file), providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        names = list(self.graph.outputs) if output is None else [output]
        return np.asarray(self._session.run(names, dict(inputs))[0], dtype=np.float32)

    def close(self) -> None:
        self._session = None
