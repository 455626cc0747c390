"""Write src/worker/warm-up-graph.ts: python scripts/warm_up_graph.py > src/worker/warm-up-graph.ts.

The graph is that of a BERT of one layer and 16 dimensions, exported at int8, so it has the operators of real ones. Its
weights are in it, its names are shortened, and its table has the tokens 0 and 1 only.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from monograph_export import export

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.checkpoints import build_model, save_transformer, wordpiece  # noqa: E402

SMALLEST: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 800,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 8,
}
# Random weights lose more by int8 than trained ones.
UNGATED: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}


def warm_up_graph() -> onnx.ModelProto:
    """Export the model in a temporary folder, and return its graph, made small."""
    with tempfile.TemporaryDirectory() as folder:
        body = save_transformer(SMALLEST, wordpiece(SMALLEST["vocab_size"], lowercase=True), Path(folder) / "body")
        model = build_model(body, max_length=SMALLEST["max_position_embeddings"])
        bundle = export(model, Path(folder) / "bundle", precision="int8", show_progress_bar=False, **UNGATED)
        graph = onnx.load(bundle.path / "model.onnx")
    names = {value.name: value.name for value in (*graph.graph.input, *graph.graph.output)}

    def shorten(name: str) -> str:
        return names.setdefault(name, f"{len(names):x}") if name else ""

    for initializer in graph.graph.initializer:
        if SMALLEST["vocab_size"] in initializer.dims:
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer)[:2], initializer.name))
        initializer.name = shorten(initializer.name)
    for node in graph.graph.node:
        node.name = ""
        node.input[:] = [shorten(name) for name in node.input]
        node.output[:] = [shorten(name) for name in node.output]
    del graph.graph.value_info[:]
    onnx.checker.check_model(graph)
    return graph


def main() -> None:
    """Write the module."""
    model = warm_up_graph()
    print("// Written by scripts/warm_up_graph.py.")
    print("/** A graph of one layer at int8, whose inputs are int64 [texts, tokens], in base64. */")
    print(f'export const WARM_UP_GRAPH =\n  "{base64.b64encode(model.SerializeToString()).decode()}";')


if __name__ == "__main__":
    main()
