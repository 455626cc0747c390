"""Remove what a graph says of the machine and the code it was traced with.

Rules
    A1  Metadata of the model, of the graph, its nodes and its values is removed: torch writes stack traces with
        file paths there, a third of the file's size.
    A2  Doc strings are removed, for the same reason.
"""

from __future__ import annotations

import itertools

import onnx_ir as ir


class Anonymize(ir.passes.InPlacePass):
    """Remove metadata and doc strings; no node changes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply rules A1 and A2."""
        graph = model.graph
        described = itertools.chain(
            (model, graph), graph.inputs, graph.initializers.values(), self._nodes_and_outputs(graph)
        )
        modified = False
        for element in described:
            modified |= bool(element.metadata_props or element.doc_string)
            element.metadata_props.clear()
            element.doc_string = None
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _nodes_and_outputs(graph: ir.Graph) -> itertools.chain[ir.Node | ir.Value]:
        return itertools.chain.from_iterable((node, *node.outputs) for node in graph.all_nodes())
