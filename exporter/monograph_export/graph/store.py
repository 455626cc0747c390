"""Write graphs and their weights, and describe them for the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from monograph.bundle.manifest import WEIGHTS_SUFFIX, Graph, TensorSpec
from monograph.engines.registry import EngineEntry, engines
from monograph.errors import ExportError
from monograph.progress import BYTES, SILENT, Progress
from monograph_export.graph.passes import fused_for_gpus

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = GRAPH_FILE.removesuffix(".onnx") + WEIGHTS_SUFFIX
FUSED_FILE = "model.cuda.onnx"
# Smaller tensors are constants that graph optimizers expect inline.
EXTERNAL_SIZE_THRESHOLD_BYTES = 1024


def numbered(file: str, number: int) -> str:
    """Return the name that the file of a further route has: ``model.onnx``, ``model.1.onnx``, ..."""
    stem, suffix = file.rsplit(".", 1)
    return f"{stem}.{number}.{suffix}" if number else file


def _file_of(file: str, number: int, precision: str | None) -> str:
    """Return the name of the file of a route, and of a precision after the first: ``model.int8.onnx``."""
    stem, suffix = file.split(".", 1)
    return numbered(file if precision is None else f"{stem}.{precision}.{suffix}", number)


@dataclass(frozen=True)
class BuiltGraph:
    """The graph of a route, at a precision; ``parts`` and ``max_batch_size`` are those of the manifest's entry."""

    model: ir.Model
    precision: str
    parts: dict[str, int]
    max_batch_size: int | None = None


def store_graphs(
    precisions: Sequence[Mapping[str | None, BuiltGraph]], folder: Path, progress: Progress = SILENT
) -> tuple[Graph, ...]:
    """Write the graphs of each precision, one a route, and one file of weights for all; return the manifest's entries.

    The weights are external data, which engines map into memory instead of copying it.
    """
    variants = [variant for number, graphs in enumerate(precisions) for variant in _variants(graphs, first=number == 0)]
    _store_weights([variant.graph.model for variant in variants], folder, progress)
    entries = [_store(variant, folder) for variant in variants]
    if len(precisions) > 1:
        entries = [
            replace(entry, weights_bytes=_external_bytes(variant.graph.model))
            for entry, variant in zip(entries, variants, strict=True)
        ]
    return tuple(entries)


@dataclass(frozen=True)
class _Variant:
    """A graph of a route, as a file for the devices of some engines."""

    route: str | None
    file: str
    graph: BuiltGraph
    engines: Sequence[EngineEntry]


def _variants(graphs: Mapping[str | None, BuiltGraph], *, first: bool) -> Iterator[_Variant]:
    """Yield the graphs of a precision, which is the ``first`` of the bundle or a further one."""
    for number, (route, graph) in enumerate(graphs.items()):
        yield from _variants_of_route(number, route, graph, None if first else graph.precision)


def _variants_of_route(number: int, route: str | None, graph: BuiltGraph, precision: str | None) -> Iterator[_Variant]:
    """Yield a route's graph, and of float16 that for GPUs, which is another where attention can be fused.

    ``precision`` is that in the names of files, None for the bundle's first.
    """
    able = [entry for entry in engines() if graph.precision in entry.precisions]
    fused = fused_for_gpus(graph.model) if graph.precision == "fp16" else None
    gpus = [entry for entry in able if entry.fused_attention] if fused is not None else []
    yield _Variant(
        route, _file_of(GRAPH_FILE, number, precision), graph, [entry for entry in able if entry not in gpus]
    )
    if fused is not None:
        # The sizes of parts are those of the file of weights, which the variants share.
        yield _Variant(route, _file_of(FUSED_FILE, number, precision), replace(graph, model=fused, parts={}), gpus)


def _store(variant: _Variant, folder: Path) -> Graph:
    graph, model = variant.graph, variant.graph.model
    ir.save(model, folder / variant.file)
    opset = model.opset_imports.get("")
    if opset is None:
        raise ExportError("the traced graph imports no standard operators")
    return Graph(
        file=variant.file,
        devices=tuple(entry.kind for entry in variant.engines),
        precision=graph.precision,
        opset=opset,
        inputs=_specs(model.graph.inputs),
        outputs=_specs(model.graph.outputs),
        op_domains=tuple(sorted(domain or "ai.onnx" for domain in model.opset_imports)),
        parts=graph.parts,
        max_batch_size=graph.max_batch_size,
        route=variant.route,
    )


def _store_weights(models: Sequence[ir.Model], folder: Path, progress: Progress) -> None:
    """Move the weights of all graphs into one file; equal ones, of a transformer that routes share, are there once.

    So are the parts of a table of embeddings that a tied head multiplies with: they are places within the table.
    """
    places: dict[object, list[ir.Value]] = {}
    within: list[tuple[ir.Value, ir.Value, int]] = []
    for model in models:
        weights = [value for value in model.graph.initializers.values() if _is_large(value.const_value)]
        parts = _parts_of_others(weights)
        within += [(value, owner, offset) for value, (owner, offset) in parts.items()]
        for value in weights:
            if value in parts:
                continue
            # One graph has each of its weights once, and hashing gigabytes takes seconds.
            key = _identity(value.const_value) if len(models) > 1 and value.const_value is not None else value
            places.setdefault(key, []).append(value)
    tensors = [values[0].const_value for values in places.values() if values[0].const_value is not None]
    with progress.step("Writing the weights", sum(tensor.nbytes for tensor in tensors), BYTES) as step:
        stored = ir.external_data.convert_tensors_to_external(
            tensors, folder, WEIGHTS_FILE, callback=lambda tensor, _: step.advance(tensor.nbytes)
        )
    for tensor, values in zip(stored, places.values(), strict=True):
        for value in values:
            value.const_value = tensor
    for value, owner, offset in within:
        value.const_value = _part_of(owner, offset, value)


def _external_bytes(model: ir.Model) -> int:
    """Return how much of the file of weights a graph reads; what several of its weights share counts once."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    places = sorted((tensor.offset or 0, tensor.nbytes) for tensor in tensors if isinstance(tensor, ir.ExternalTensor))
    size = end = 0
    for offset, length in places:
        size += max(0, offset + length - max(offset, end))
        end = max(end, offset + length)
    return size


def _parts_of_others(weights: Sequence[ir.Value]) -> dict[ir.Value, tuple[ir.Value, int]]:
    """Return for each weight that lies within another's memory that other, and the bytes from its beginning.

    A head tied to the table of embeddings multiplies with parts of it.

    Of several that take the same memory the first is no part.
    """
    places: dict[int, list[tuple[int, int, ir.Value]]] = {}
    for value in weights:
        if (place := _memory(value.const_value)) is not None:
            storage, begin, end = place
            places.setdefault(storage, []).append((begin, end, value))
    parts: dict[ir.Value, tuple[ir.Value, int]] = {}
    for within in places.values():
        # Of those that begin at one place the largest first; sorting keeps the order of equals.
        within.sort(key=lambda entry: (entry[0], -entry[1]))
        begin, end, owner = within[0]
        for first, last, value in within[1:]:
            if last <= end:
                parts[value] = owner, first - begin
            else:
                begin, end, owner = first, last, value
    return parts


def _memory(tensor: ir.TensorProtocol | None) -> tuple[int, int, int] | None:
    """Return a tensor of torch's as its storage and the bytes of it that it takes, None for any other."""
    raw: Any = getattr(tensor, "raw", None)
    # By what it has and not by its class: the graph of an ONNX file is written without torch.
    if not hasattr(raw, "untyped_storage") or not raw.is_contiguous():
        return None
    begin = raw.storage_offset() * raw.element_size()
    return raw.untyped_storage().data_ptr(), begin, begin + raw.nbytes


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
