"""Graphs that pass the scanner and end ONNX Runtime: they end a process of their own, and not the caller's."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from monograph import DeviceError, Embedder
from monograph.commands.main import main


@pytest.fixture
def dividing_bundle(tmp_path: Path) -> Path:
    """Return a bundle whose graph takes the remainder of the smallest int64 by -1, on which processors trap."""
    folder = tmp_path / "bundle"
    shutil.copytree(Path(__file__).parents[1] / "data/embedding", folder)
    axes = {name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")}
    constants = {
        "table": np.ones((1000, 24), dtype=np.float32),
        "axis": np.array([1]),
        "smallest": np.array([-(2**63)]),
        "minus_one": np.array([-1]),
    }
    nodes = [
        helper.make_node("Mod", ["smallest", "minus_one"], ["remainder"]),
        helper.make_node("Cast", ["remainder"], ["zero"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "input_ids"], ["embeddings"]),
        helper.make_node("ReduceMean", ["embeddings", "axis"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["sentence_embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in axes.items()],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 24])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_verify_goes_on(dividing_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(dividing_bundle), "--device", "cpu", "--json"]) == 1
    assert "ended by SIGFPE" in json.loads(capsys.readouterr().out)["not_run"]["cpu float32"]


def test_auto_opens_no_engine_on_what_another_failed_on(dividing_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="ended by SIGFPE"):
        Embedder(dividing_bundle, cache_dir=tmp_path / "cache")
