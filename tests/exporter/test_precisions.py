"""An export of several precisions: one bundle, whose graphs share what is equal, verified each with its own probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import CrossEncoder, Embedder
from monograph.bundle import read_probes
from monograph.errors import ExportError
from monograph_export import compare_bundles, export
from support import sparse_encoders
from support.command import assert_error, monograph

# Random weights do not keep to the limits that trained ones do.
ANY: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}


@pytest.mark.slow
def test_each_precision_is_as_in_a_bundle_of_its_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    both = export(tiny_checkpoint, tmp_path / "both", precision="fp32,int8", **ANY)
    assert [graph.file for graph in both.manifest.graphs] == ["model.onnx", "model.int8.onnx"]
    assert both.manifest.precisions == ("fp32", "int8")
    assert "precision int8" not in both.manifest.quality.reference
    for one in both.by_precision:
        alone = export(tiny_checkpoint, tmp_path / str(one.precision), precision=str(one.precision), **ANY)
        assert alone.manifest.quality == one.manifest.quality
        (own,), (same,) = read_probes(alone.path), read_probes(both.path, file=one.probes_file)
        assert own.texts == same.texts
        np.testing.assert_array_equal(own.vectors, same.vectors)
        # All but what the graphs share.
        (graph,) = one.manifest.graphs
        assert both.weights_bytes(graph) == alone.weights_bytes(alone.manifest.graphs[0])
        with Embedder(alone.path, "cpu") as first, Embedder(both.path, "cpu") as second:
            if one.precision == "fp32":
                np.testing.assert_array_equal(first.encode(own.single_texts), second.encode(own.single_texts))


def test_equal_weights_are_stored_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "bundle", precision=("int8", "fp32"), table="int8", **ANY)
    assert bundle.manifest.precisions == ("int8", "fp32")
    total = bundle.manifest.files["model.onnx.data"].bytes
    int8, fp32 = (bundle.weights_bytes(graph) for graph in bundle.manifest.graphs)
    table = bundle.manifest.graphs[0].parts["table"]
    # Also biases and norms.
    assert total <= int8 + fp32 - table


@pytest.mark.slow
def test_float16_brings_its_graph_for_gpus(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "bundle", precision="fp32,fp16")
    files = {graph.file: graph.devices for graph in bundle.manifest.graphs}
    assert list(files) == ["model.onnx", "model.fp16.onnx", "model.fp16.cuda.onnx"]
    assert files["model.fp16.cuda.onnx"] == ("cuda",)
    assert "cuda" in files["model.onnx"]
    assert sorted(bundle.manifest.further_precisions) == ["fp16"]
    with Embedder(bundle.path, "cpu", quality="fast") as model:
        # CPUs widen float16.
        assert model.graph_precision == "fp32"


@pytest.mark.slow
def test_a_cross_encoder_has_several(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(
        tiny_cross_checkpoint,
        tmp_path / "bundle",
        precision="fp32,int8",
        min_rank_correlation=-1,
        max_score_move=9,
    )
    pairs = [("a boat", "the harbour"), ("a radio", "")]
    with CrossEncoder(bundle.path, "cpu") as exact, CrossEncoder(bundle.path, "cpu", quality="fast") as fast:
        np.testing.assert_allclose(fast.predict(pairs), exact.predict(pairs), atol=0.2)
        assert (exact.graph_precision, fast.graph_precision) == ("fp32", "int8")


@pytest.mark.slow
def test_the_same_options_give_the_same_bytes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundles = [export(tiny_checkpoint, tmp_path / name, precision="fp32,int8", **ANY) for name in ("first", "second")]
    assert compare_bundles(*bundles).differing == ()
    assert "probes.int8.json" in {file.name for file in compare_bundles(*bundles).files}


@pytest.mark.parametrize("precision", ["fp32,fp32", "fp32,int4", "", "fp32,", (), ("int8", "int8")])
def test_precisions_that_are_none_are_refused(tiny_checkpoint: Path, tmp_path: Path, precision: Any) -> None:
    with pytest.raises(ExportError, match=r"precision"):
        export(tiny_checkpoint, tmp_path / "bundle", precision=precision)
    assert not (tmp_path / "bundle").exists()


def test_the_precision_that_loses_too_much_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^at precision int8: .*mean cosine"):
        export(tiny_checkpoint, tmp_path / "bundle", precision="fp32,int8", min_mean_cosine=1)
    assert not (tmp_path / "bundle").exists()


def test_models_that_are_exported_as_they_are_have_one(tmp_path: Path) -> None:
    routed = sparse_encoders.save_inference_free(tmp_path / "routed")
    with pytest.raises(ExportError, match=r"a model with a Router .* leave out --precision fp32,int8"):
        export(routed, tmp_path / "bundle", precision="fp32,int8")


def test_an_onnx_file_has_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--precision cannot go with --from-onnx"):
        export(tiny_checkpoint, tmp_path / "bundle", precision="fp32,int8", from_onnx="model.onnx")


def test_the_command_refuses_an_unknown_one(tmp_path: Path) -> None:
    done = monograph("export", tmp_path, tmp_path / "bundle", "--precision", "fp32,fp8")
    assert_error(done, 2, "'fp8'")
