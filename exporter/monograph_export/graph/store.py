"""Write graphs and their weights, and describe them for the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from monograph.bundle.manifest import WEIGHTS_SUFFIX, Graph, TensorSpec
from monograph.engines.devices import ENGINES, EngineEntry
from monograph.errors import ExportError
from monograph_export.graph.passes import fused_for_gpus
from monograph_export.graph.shared_memory import parts_of_others

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = GRAPH_FILE.removesuffix(".onnx") + WEIGHTS_SUFFIX
FUSED_FILE = "model.cuda.onnx"
_FUSED_ON = ("cuda",)
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
    forms = list(_forms(models, precision))
    _store_weights([form.model for form in forms], folder)
    graphs = []
    for form in forms:
        ir.save(form.model, folder / form.file)
        opset = form.model.opset_imports.get("")
        if opset is None:
            raise ExportError("the traced graph imports no standard operators")
        graphs.append(
            Graph(
                file=form.file,
                engines=tuple(dict.fromkeys(entry.engine for entry in form.able)),
                devices=tuple(entry.kind for entry in form.able),
                precision=precision,
                opset=opset,
                inputs=_specs(form.model.graph.inputs),
                outputs=_specs(form.model.graph.outputs),
                op_domains=tuple(sorted(domain or "ai.onnx" for domain in form.model.opset_imports)),
                parts=parts[form.route] if form.parts else {},
                route=form.route,
            )
        )
    return tuple(graphs)


@dataclass(frozen=True)
class _Form:
    """A graph of a route, as a file for the devices of some engines."""

    route: str | None
    file: str
    model: ir.Model
    able: Sequence[EngineEntry]
    parts: bool = True


def _forms(models: Mapping[str | None, ir.Model], precision: str) -> Iterator[_Form]:
    """Yield each route's graph, and of float16 that for GPUs, which is another where attention can be fused."""
    able = [entry for entry in ENGINES if precision in entry.precisions]
    for number, (route, model) in enumerate(models.items()):
        fused = fused_for_gpus(model) if precision == "fp16" else None
        gpus = [entry for entry in able if entry.kind in _FUSED_ON] if fused is not None else []
        others = [entry for entry in able if entry not in gpus]
        yield _Form(route, numbered(GRAPH_FILE, number), model, others)
        if fused is not None:
            yield _Form(route, numbered(FUSED_FILE, number), fused, gpus, parts=False)


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
