"""Models compiled by OpenVINO, for any shape or for fixed ones, from the graph or from the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph, TensorSpec
from monograph.cache import read_cached, write_cached
from monograph.cpu import cpu_identity
from monograph.engines.native import is_raised_by
from monograph.engines.slots import Slots
from monograph.version import __version__

logger = logging.getLogger(__name__)
# Type names: ours and OpenVINO's.
DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_NAMES = {short: name for name, short in DTYPES.items()} | {"i64": "int64"}
_AXES = ("batch", "sequence")
# Prefix of the outputs that ``_read_graph`` adds.
_EXTRA_OUTPUT = "monograph.pooled."


class Model(ABC):
    """Runs batches of any shape.

    ``device``, ``compute_dtype`` and ``threads`` are those that OpenVINO reports, None where it does not.
    ``signature`` holds the types and shapes of inputs and outputs, ``max_concurrency`` is the number of batches that
    run in parallel.
    """

    device: str
    compute_dtype: str | None
    threads: int | None
    signature: dict[str, TensorSpec]
    max_concurrency: int = 1

    @abstractmethod
    def infer(self, inputs: Mapping[str, NDArray[np.int64]], output: int = 0) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return the output of that number, float32 [b, d]."""


class CompiledModel(Model):
    """One compiled model with its requests; ``names`` are those of the graph's inputs and outputs."""

    def __init__(self, compiled: Any, names: Collection[str]) -> None:
        self.compiled = compiled
        # In brackets AUTO names a device that fills in while another is prepared.
        self.device = ",".join(name.strip("()") for name in compiled.get_property("EXECUTION_DEVICES"))
        precision = _property(compiled, "INFERENCE_PRECISION_HINT")
        self.compute_dtype = None if precision is None else _NAMES.get(precision.to_string(), precision.to_string())
        threads = _property(compiled, "INFERENCE_NUM_THREADS")
        self.threads = None if threads is None else int(threads)
        values = (*compiled.inputs, *compiled.outputs)
        self.signature = {_name(v, names): _spec(v) for v in values if not v.any_name.startswith(_EXTRA_OUTPUT)}
        self.max_concurrency = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # Further callers wait for a request here; in OpenVINO each would need buffers.
        self._requests = Slots(compiled.create_infer_request() for _ in range(self.max_concurrency))

    def infer(self, inputs: Mapping[str, NDArray[np.int64]], output: int = 0) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return an output, float32 [b, d], the caller's own."""
        lock, request = self._requests.choose()
        with lock:
            request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            # Takes half the time of the dictionary of outputs.
            return np.array(request.get_output_tensor(output).data, dtype=np.float32)


class StaticModels(Model):
    """A compiled model for each length, one text at a time, for devices that need static shapes.

    Experimental: tested on the CPU, on no NPU.
    """

    def __init__(
        self,
        core: Any,
        graph: Path,
        names: Collection[str],
        target: str,
        config: Mapping[str, Any],
        padding_buckets: NDArray[np.int64],
    ) -> None:
        self._core, self._graph, self._target, self._config = core, graph, target, dict(config)
        self._names = names
        self._padding_buckets = padding_buckets
        self._lock = threading.Lock()
        self._models: dict[int, CompiledModel] = {}
        shortest = self._compile(int(padding_buckets[0]))
        self.device, self.compute_dtype, self.threads = shortest.device, shortest.compute_dtype, shortest.threads
        self.signature = {name: _any_size(spec) for name, spec in shortest.signature.items()}

    def infer(self, inputs: Mapping[str, NDArray[np.int64]], output: int = 0) -> NDArray[np.float32]:
        """Run the texts of a batch one by one; its length (inputs int64 [b, s]) must be one of the buckets."""
        names = list(inputs)
        rows, length = inputs[names[0]].shape
        if length not in self._padding_buckets:
            raise RuntimeError(f"no model was compiled for {length} tokens, only for {self._padding_buckets.tolist()}")
        model = self._compile(length)
        return np.concatenate(
            [model.infer({name: inputs[name][row : row + 1] for name in names}, output) for row in range(rows)]
        )

    def _compile(self, length: int) -> CompiledModel:
        with self._lock:
            if length not in self._models:
                graph = _read_graph(self._core, self._graph, self._config)
                graph.reshape({value.any_name: [1, length] for value in graph.inputs})
                compiled = self._core.compile_model(graph, self._target, self._config)
                self._models[length] = CompiledModel(compiled, self._names)
            return self._models[length]


def _read_graph(core: Any, path: Path, config: Mapping[str, Any]) -> Any:
    """Read a graph to be compiled with a configuration.

    Below float32 the CPU plugin rounds everything before a matrix product that leads to an output, and leaves in
    float32 what reaches an output without one. So a Dense after the pooling costs the whole encoder its float32
    residuals and LayerNorms: LaBSE's worst cosine to float32 fell to 0.99987, a model without Dense has 0.99997. The
    workaround makes each pooled vector that is multiplied an output too, which nobody reads.
    """
    model = core.read_model(path)
    if config["INFERENCE_PRECISION_HINT"] != DTYPES["float32"]:
        products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
        pooled = [value for value in (node.input_value(0) for node in products) if _is_matrix(value)]
        for number, output in enumerate(model.add_outputs(pooled)):
            output.get_tensor().set_names({f"{_EXTRA_OUTPUT}{number}"})
    return model


def _is_matrix(value: Any) -> bool:
    rank = value.partial_shape.rank
    return bool(rank.is_static and rank.get_length() == 2)


def compile_graph(
    core: Any, bundle: Bundle, graph: Graph, target: str, config: Mapping[str, Any], cache: Path | None
) -> Any:
    """Compile a graph, or load the compiled one from the cache.

    The cached blob has no weights (half a megabyte for MiniLM): they stay in the bundle's file, memory-mapped. Its key
    is made of the bundle, the graph, the versions of monograph and OpenVINO, the device, CPU and configuration.

    Raises:
        Exception: what OpenVINO raises where it cannot load or compile the graph.

    """
    path = bundle.path / graph.file
    cacheable = target != "AUTO" and "EXPORT_IMPORT" in core.get_property(target, "OPTIMIZATION_CAPABILITIES")
    if cache is None or not cacheable:
        return core.compile_model(_read_graph(core, path, config), target, dict(config))
    config = {**config, "CACHE_MODE": "OPTIMIZE_SIZE"}
    import_config = {**config, "WEIGHTS_PATH": str(bundle.weights_path(graph))}
    blob_path = cache / "openvino" / f"{_key(core, bundle, graph, target, config)}.blob"
    blob = read_cached(blob_path)
    if blob is not None:
        try:
            return core.import_model(blob, target, import_config)
        except Exception as error:
            if not is_raised_by("openvino", error):
                raise
            logger.warning("%s cannot be used (%s): compiling again", blob_path, last_line_of(error))
    compiled = core.compile_model(_read_graph(core, path, config), target, dict(config))
    _write_blob(core, compiled, blob_path, target, import_config)
    return compiled


def _write_blob(core: Any, compiled: Any, path: Path, target: str, config: dict[str, Any]) -> None:
    """Cache a compiled model, provided that it computes the same when it is read back.

    Some versions of OpenVINO (2026.1) then read wrong values from the weights' file.
    """
    blob = compiled.export_model().getvalue()
    try:
        equal = np.array_equal(_run_sample(core.import_model(blob, target, config)), _run_sample(compiled))
    except Exception as error:
        if not is_raised_by("openvino", error):
            raise
        logger.info("OpenVINO cannot read back what it compiled (%s): it is not cached", last_line_of(error))
        return
    if equal:
        write_cached(path, blob)


def _run_sample(compiled: Any) -> NDArray[np.float32]:
    """Return the output for two short texts of the first ids: float32 [2, d]."""
    ones = np.ones((2, 8), dtype=np.int64)
    ids = np.arange(16, dtype=np.int64).reshape(2, 8) % 5
    values = {"input_ids": ids, "attention_mask": ones, "pooling_mask": ones}
    inputs = {value.any_name: values.get(value.any_name, 0 * ones) for value in compiled.inputs}
    return np.array(compiled.create_infer_request().infer(inputs)[0], dtype=np.float32)


def last_line_of(error: Exception) -> str:
    """Return the last line of an OpenVINO error, which states the cause; those before name its source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line for line in lines if line and not line.startswith("Exception from ")]
    return causes[-1] if causes else type(error).__name__


def _key(core: Any, bundle: Bundle, graph: Graph, target: str, config: Mapping[str, Any]) -> str:
    version = core.get_versions(target)[target]
    parts = [
        __version__,
        bundle.identity,
        graph.file,
        f"{version.description} {version.build_number}",
        core.get_property(target, "FULL_DEVICE_NAME"),
        cpu_identity(),
        dict(config),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _property(compiled: Any, name: str) -> Any:
    return compiled.get_property(name) if name in compiled.get_property("SUPPORTED_PROPERTIES") else None


def _name(value: Any, names: Collection[str]) -> str:
    """Return the graph's name of an input or output, which has several where OpenVINO removed no-op nodes."""
    return next((name for name in names if name in value.names), value.any_name)


def _spec(value: Any) -> TensorSpec:
    # A graph of other ranks differs from the manifest, which is said where both are compared.
    names = (*_AXES, *map(str, range(len(_AXES), len(value.partial_shape))))
    axes: list[str | int] = [
        name if size.is_dynamic else size.get_length() for name, size in zip(names, value.partial_shape, strict=False)
    ]
    short = value.element_type.to_string()
    return TensorSpec(_NAMES.get(short, short), tuple(axes))


def _any_size(spec: TensorSpec) -> TensorSpec:
    """Return a static input or output as the graph declares it: only the last axis of outputs is fixed."""
    inputs = spec.dtype == "int64"
    return TensorSpec(spec.dtype, _AXES if inputs else (_AXES[0], *spec.shape[1:]))
