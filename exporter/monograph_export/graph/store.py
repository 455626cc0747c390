"""Write graphs and their weights, and describe them for the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from monograph.bundle.manifest import WEIGHTS_SUFFIX, Graph, TensorSpec
from monograph.engines.devices import ENGINES
from monograph.errors import ExportError
from monograph_export.graph.shared_memory import parts_of_others

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = GRAPH_FILE.removesuffix(".onnx") + WEIGHTS_SUFFIX
# Smaller tensors are constants that graph optimisers want to see inline.
EXTERNAL_SIZE_THRESHOLD_BYTES = 1024


def numbered(file: str, number: int) -> str:
    """Return the name that the file of a further route has: ``model.onnx``, ``model.1.onnx``, ..."""
    stem, suffix = file.rsplit(".", 1)
    return f"{stem}.{number}.{suffix}" if number else file


def store_graphs(
    models: Mapping[str | None, ir.Model],
    folder: Path,
    *,
    precision: str,
    parts: Mapping[str | None, dict[str, int]],
) -> tuple[Graph, ...]:
    """Write the graph of each route and one file of weights for all into a folder; return the manifest's entries.

    The weights are external data, which engines map into memory instead of copying it.
    """
    _store_weights(list(models.values()), folder)
    graphs = []
    for number, (route, model) in enumerate(models.items()):
        file = numbered(GRAPH_FILE, number)
        ir.save(model, folder / file)
        opset = model.opset_imports.get("")
        if opset is None:
            raise ExportError("the traced graph imports no standard operators")
        graphs.append(
            Graph(
                file=file,
                engines=tuple(entry.engine for entry in ENGINES),
                devices=tuple(entry.kind for entry in ENGINES),
                precision=precision,
                opset=opset,
                inputs=_specs(model.graph.inputs),
                outputs=_specs(model.graph.outputs),
                op_domains=tuple(sorted(domain or "ai.onnx" for domain in model.opset_imports)),
                parts=parts[route],
                route=route,
            )
        )
    return tuple(graphs)


def _store_weights(models: Sequence[ir.Model], folder: Path) -> None:
    """Move the weights of all graphs into one file; equal ones, of a transformer that routes share, are there once.

    So are the parts of a table of embeddings that a tied head multiplies with: they are places within the table.
    """
    places: dict[object, list[ir.Value]] = {}
    within: list[tuple[ir.Value, ir.Value, int]] = []
    for model in models:
        weights = [value for value in model.graph.initializers.values() if _is_large(value.const_value)]
        parts = parts_of_others(weights)
        within += [(value, owner, offset) for value, (owner, offset) in parts.items()]
        for value in weights:
            if value in parts:
                continue
            # One graph has each of its weights once, and hashing gigabytes takes seconds.
            key = _identity(value.const_value) if len(models) > 1 and value.const_value is not None else value
            places.setdefault(key, []).append(value)
    tensors = [values[0].const_value for values in places.values() if values[0].const_value is not None]
    stored = ir.external_data.convert_tensors_to_external(tensors, folder, WEIGHTS_FILE)
    for tensor, values in zip(stored, places.values(), strict=True):
        for value in values:
            value.const_value = tensor
    for value, owner, offset in within:
        value.const_value = _part_of(owner, offset, value)


def _is_large(tensor: ir.TensorProtocol | None) -> bool:
    return tensor is not None and tensor.nbytes >= EXTERNAL_SIZE_THRESHOLD_BYTES


def _part_of(owner: ir.Value, offset: int, value: ir.Value) -> ir.ExternalTensor:
    whole, part = owner.const_value, value.const_value
    if not isinstance(whole, ir.ExternalTensor) or whole.offset is None or part is None or value.name is None:
        raise ExportError(f"{value.name} is part of {owner.name}, which was not written")
    return ir.ExternalTensor(
        whole.location,
        whole.offset + offset,
        part.nbytes,
        part.dtype,
        shape=ir.Shape(part.shape.numpy()),
        name=value.name,
        base_dir=whole.base_dir,
    )


def _identity(tensor: ir.TensorProtocol) -> tuple[str, tuple[int, ...], bytes]:
    return tensor.dtype.name, tuple(tensor.shape.numpy()), hashlib.sha256(tensor.tobytes()).digest()


def _specs(values: Sequence[ir.Value]) -> dict[str, TensorSpec]:
    specs = {}
    for value in values:
        if value.name is None or value.dtype is None or value.shape is None:
            raise ExportError(f"the traced graph's {value.name} has no type or shape")
        axes = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
        specs[value.name] = TensorSpec(value.dtype.numpy().name, axes)
    return specs
