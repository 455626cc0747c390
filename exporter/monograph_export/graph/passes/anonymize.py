"""Remove what a graph says of the machine and the code it was traced with.

The pass of onnx-ir before this one clears nodes, graphs and functions; torch's stack traces with file paths, most of
the file's size, lie there.

Rules
    A1  Metadata and doc string of the model are removed.
    A2  Metadata and doc strings of inputs, initializers and the outputs of nodes are removed.
"""

from __future__ import annotations

import itertools

import onnx_ir as ir


class Anonymize(ir.passes.InPlacePass):
    """Remove metadata and doc strings of the model and of its values; no node changes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules A1 and A2."""
        outputs = itertools.chain.from_iterable(node.outputs for node in model.graph.all_nodes())
        described: list[ir.Model | ir.Value] = [
            model,
            *model.graph.inputs,
            *model.graph.initializers.values(),
            *outputs,
        ]
        modified = False
        for element in described:
            modified |= bool(element.metadata_props or element.doc_string)
            element.metadata_props.clear()
            element.doc_string = None
        return ir.passes.PassResult(model, modified)
