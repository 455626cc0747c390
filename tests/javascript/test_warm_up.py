"""The graph that a browser runs first has what the graphs of bundles have."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).parents[2]
# Of Dense modules, which most models do not have.
DENSE = {"Gemm", "Tanh"}


def operators(graph: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in graph.graph.node}


def test_the_graph_has_the_operators_of_an_int8_bundle() -> None:
    source = (ROOT / "javascript" / "src" / "worker" / "warm-up-graph.ts").read_text(encoding="utf-8")
    match = re.search(r'"(.+)"', source)
    assert match is not None
    graph = onnx.load_from_string(base64.b64decode(match[1]))
    bundle = onnx.load(ROOT / "tests" / "data" / "embedding-int8" / "model.onnx", load_external_data=False)
    assert operators(graph) >= operators(bundle) - DENSE

    session = onnxruntime.InferenceSession(graph.SerializeToString())
    ones = np.ones((32, 8), np.int64)
    (vectors,) = session.run(None, {one.name: ones for one in session.get_inputs()})
    assert np.isfinite(np.asarray(vectors)).all()
