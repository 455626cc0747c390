"""Write a graph and its weights, and describe them for the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from monograph.bundle.manifest import WEIGHTS_SUFFIX, Graph, TensorSpec
from monograph.errors import ExportError

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = GRAPH_FILE.removesuffix(".onnx") + WEIGHTS_SUFFIX
# Smaller tensors are constants that graph optimisers want to see inline.
EXTERNAL_SIZE_THRESHOLD_BYTES = 1024


def store_graph(
    model: ir.Model,
    folder: Path,
    *,
    precision: str,
    parts: dict[str, int],
    engines: tuple[str, ...],
    devices: tuple[str, ...],
) -> Graph:
    """Write ``model.onnx`` and ``model.onnx.data`` into a folder and return the manifest's entry.

    The weights are external data, which engines map into memory instead of copying it.
    """
    ir.save(
        model,
        folder / GRAPH_FILE,
        external_data=WEIGHTS_FILE,
        size_threshold_bytes=EXTERNAL_SIZE_THRESHOLD_BYTES,
    )
    opset = model.opset_imports.get("")
    if opset is None:
        raise ExportError("the traced graph imports no standard operators")
    return Graph(
        file=GRAPH_FILE,
        engines=engines,
        devices=devices,
        precision=precision,
        opset=opset,
        inputs=_specs(model.graph.inputs),
        outputs=_specs(model.graph.outputs),
        op_domains=tuple(sorted(domain or "ai.onnx" for domain in model.opset_imports)),
        parts=parts,
    )


def _specs(values: Sequence[ir.Value]) -> dict[str, TensorSpec]:
    specs = {}
    for value in values:
        if value.name is None or value.dtype is None or value.shape is None:
            raise ExportError(f"the traced graph's {value.name} has no type or shape")
        axes = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
        specs[value.name] = TensorSpec(value.dtype.numpy().name, axes)
    return specs
