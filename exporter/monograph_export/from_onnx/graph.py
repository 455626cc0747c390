"""Append the modules behind an encoder to its graph, and leave in that what their vectors depend on."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from monograph.tasks.embedding import EMBEDDING
from monograph_export.from_onnx.encoder import Encoder, table_of
from monograph_export.from_onnx.head import Head
from monograph_export.from_onnx.operators import Appender
from monograph_export.graph.passes.anonymize import Anonymize

# Of the first format in which weights are no inputs.
_MIN_IR_VERSION = 4


def append_modules(encoder: Encoder, head: Head) -> dict[str, int]:
    """Append pooling and what follows it to the encoder's graph, in place, and return the bytes of the graph's parts.

    The other outputs of the file go, with the nodes that only they need.
    """
    graph = encoder.model.graph
    # Parts that the sentence vector does not need go before the table is searched for and the rest is counted.
    graph.outputs[:] = [encoder.tokens]
    _clean(encoder.model)
    parts = _sizes(encoder)
    append = Appender(graph, encoder.opset)
    tokens = encoder.tokens
    if tokens.dtype != ir.DataType.FLOAT:
        tokens = append.cast(tokens, ir.DataType.FLOAT)
    vectors = head.pooling.append(append, tokens, encoder.mask)
    for module in head.modules:
        vectors = module.append(append, vectors)
    _rename_axes(graph)
    vectors.name, vectors.dtype = EMBEDDING.output, ir.DataType.FLOAT
    vectors.shape = ir.Shape(["batch", head.width])
    graph.outputs[:] = [vectors]
    encoder.model.ir_version = max(encoder.model.ir_version, _MIN_IR_VERSION)
    parts["head"] = _bytes(graph) - sum(parts.values())
    return parts


def _clean(model: ir.Model) -> None:
    model.metadata_props.clear()
    model.doc_string = None
    ir.passes.Sequential(
        # Weights that old files have in nodes could not lie outside the graph.
        common.LiftConstantsToInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),
        Anonymize(),
    )(model)


def _rename_axes(graph: ir.Graph) -> None:
    """Name the axes of the inputs as all bundles do, wherever the file has its own names for them.

    The shapes stay: without them ONNX Runtime fuses less than it does in the file, and float32 values that differ in
    their last digits are rounded otherwise by an int8 graph.
    """
    names: dict[str | None, str] = {}
    for value in graph.inputs:
        if value.shape is not None:
            given = [axis.value if isinstance(axis, ir.SymbolicDim) else None for axis in value.shape]
            names |= {old: new for old, new in zip(given, ("batch", "sequence"), strict=True) if old is not None}
        value.shape = ir.Shape(["batch", "sequence"])
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(axis, names) for axis in value.shape])


def _renamed(axis: int | ir.SymbolicDim, names: dict[str | None, str]) -> int | str | None:
    return axis if isinstance(axis, int) else names.get(axis.value, axis.value)


def _sizes(encoder: Encoder) -> dict[str, int]:
    """Return the bytes of the table of token embeddings and of the encoder's other weights."""
    table = table_of(encoder)
    size = 0 if table is None else table.nbytes
    return {"table": size, "layers": _bytes(encoder.model.graph) - size}


def _bytes(graph: ir.Graph) -> int:
    tensors = (value.const_value for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
