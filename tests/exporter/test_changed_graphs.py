"""Graphs that compute something else than their manifest says: an error each, never a wrong vector or a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from monograph import BundleError, DeviceError, Embedder, MonographError
from monograph.bundle import open_bundle, read_probes
from monograph.bundle.files import sha256_of
from monograph.engines import EngineOptions
from monograph.inference.routes import Routes, load_routes, load_tokenizers
from monograph.inference.verification import quick_failure, verify
from support.command import assert_error, monograph

DATA = Path(__file__).parents[1] / "data"
DEVICES = ("cpu", "openvino")
# The tokens of the text that gives no number.
SPECIAL = 5
TEXTS = ["boat", "A boat and a song.", "", "A radio plays a song in the harbour."]
Change = Callable[[onnx.ModelProto, str], None]


def change_graph(kind: str, folder: Path, change: Change, graph: str = "model.onnx") -> Path:
    """Copy a bundle of tests/data and change a graph of it, with its hash in the manifest."""
    bundle = Path(shutil.copytree(DATA / kind, folder / "bundle"))
    path = bundle / graph
    model = onnx.load(path, load_external_data=False)
    change(model, model.graph.output[0].name)
    path.write_bytes(model.SerializeToString())
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"][graph] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def append(model: onnx.ModelProto, output: str, nodes: Callable[[str], list[onnx.NodeProto]]) -> None:
    """Put nodes behind a graph's output; they take a name and give the output."""
    before = f"{output}.before"
    for node in model.graph.node:
        node.output[:] = [before if name == output else name for name in node.output]
        node.input[:] = [before if name == output else name for name in node.input]
    model.graph.node.extend(nodes(before))


def constant(model: onnx.ModelProto, name: str, values: object, dtype: type) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=dtype), name))
    return name


def mean_over_texts(model: onnx.ModelProto, output: str) -> None:
    axes = constant(model, "batch_axis", [0], np.int64)
    append(model, output, lambda name: [helper.make_node("ReduceMean", [name, axes], [output], keepdims=1)])


def _one_along(model: onnx.ModelProto, output: str, axis: int) -> None:
    """Leave one row or column, in a way that no engine knows before it runs."""
    zero, axes = constant(model, "zero", [0], np.int64), constant(model, "axis", [axis], np.int64)
    append(
        model,
        output,
        lambda name: [
            helper.make_node("ReduceMax", ["attention_mask"], ["unmasked"], keepdims=0),
            helper.make_node("Unsqueeze", ["unmasked", zero], ["end"]),
            helper.make_node("Slice", [name, zero, "end", axes], [output]),
        ],
    )


def first_text_only(model: onnx.ModelProto, output: str) -> None:
    _one_along(model, output, 0)


def twice_the_texts(model: onnx.ModelProto, output: str) -> None:
    append(model, output, lambda name: [helper.make_node("Concat", [name, name], [output], axis=0)])


def one_column(model: onnx.ModelProto, output: str) -> None:
    _one_along(model, output, 1)


def _shorter_by(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    axes, special = constant(model, "tokens_axis", [1], np.int64), constant(model, "special", SPECIAL, np.int64)
    return [
        helper.make_node("ReduceSum", ["attention_mask", axes], ["tokens"], keepdims=1),
        helper.make_node("Sub", ["tokens", special], ["beside"]),
        helper.make_node("Cast", ["beside"], ["difference"], to=TensorProto.FLOAT),
    ]


def _divided_for_a_length(model: onnx.ModelProto, output: str, value: float) -> None:
    divided, nodes = constant(model, "divided", value, np.float32), _shorter_by(model)
    append(
        model,
        output,
        lambda name: [
            *nodes,
            helper.make_node("Div", [divided, "difference"], ["added"]),
            helper.make_node("Add", [name, "added"], [output]),
        ],
    )


def nan_for_a_length(model: onnx.ModelProto, output: str) -> None:
    _divided_for_a_length(model, output, 0.0)


def infinity_for_a_length(model: onnx.ModelProto, output: str) -> None:
    _divided_for_a_length(model, output, 1.0)


WRONG_SHAPES = {
    "mean over texts": mean_over_texts,
    "first text only": first_text_only,
    "twice the texts": twice_the_texts,
    "one column": one_column,
}
# What OpenVINO knows of a graph before it runs: that its output is of another shape.
KNOWN_BEFORE = {("mean over texts", "openvino"), ("one column", "openvino")}
NO_NUMBERS = {"NaN": nan_for_a_length, "infinity": infinity_for_a_length}


@contextmanager
def opened(bundle: Path, device: str) -> Iterator[Routes]:
    """Open a bundle as verification does, which does not try its probes before."""
    loaded = open_bundle(bundle)
    routes = load_routes(loaded, load_tokenizers(loaded), EngineOptions(device, "float32", 1, None))
    yield routes
    routes.close()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_an_output_of_another_shape_is_an_error(name: str, device: str, tmp_path: Path) -> None:
    bundle = change_graph("embedding", tmp_path, WRONG_SHAPES[name])
    if (name, device) in KNOWN_BEFORE:
        with pytest.raises(BundleError, match=r"model\.onnx has .*, the manifest"), opened(bundle, device):
            pass
        return
    with opened(bundle, device) as routes:
        pipeline, runner = routes.main, routes.main.runner
        tokens = pipeline.tokenize(TEXTS)
        for compute in (
            lambda: runner.run(tokens),
            lambda: list(runner.stream(tokens)),
            lambda: list(runner.stream(tokens, 2)),
            lambda: list(pipeline.outputs(TEXTS)),
        ):
            with pytest.raises(MonographError, match=r"returned float32 \[.*\] where float32 \[\d, 24\] was due"):
                compute()
        if name in ("twice the texts", "one column"):
            with pytest.raises(MonographError, match="was due"):
                runner.warm_up()
        assert "was due" in quick_failure(routes)
        result = verify(routes, read_probes(bundle))
    assert not result.passed
    assert "was due" in result.reason
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NO_NUMBERS)
def test_an_output_that_is_not_finite_is_an_error_for_that_text_only(name: str, device: str, tmp_path: Path) -> None:
    bundle = change_graph("embedding", tmp_path, NO_NUMBERS[name])
    with opened(bundle, device) as routes:
        pipeline = routes.main
        lengths = pipeline.tokenize(TEXTS).lengths
        wrong = [text for text, length in zip(TEXTS, lengths, strict=True) if length == SPECIAL]
        right = [text for text in TEXTS if text not in wrong]
        assert wrong
        for texts in (wrong, TEXTS):
            with pytest.raises(MonographError, match=r"returned NaN or infinity for 1 of \d texts"):
                list(pipeline.outputs(texts))
        assert all(np.isfinite(outputs).all() for _, outputs in pipeline.outputs(right))
        result = verify(routes, read_probes(bundle))
    assert not result.passed
    assert "NaN or infinity" in result.reason
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("device", [*DEVICES, "auto"])
def test_users_meet_one_error(device: str, tmp_path: Path) -> None:
    bundle = change_graph("embedding", tmp_path, first_text_only)
    if device != "cpu":
        with pytest.raises(DeviceError, match="was due"):
            Embedder(bundle, device, cache_dir=tmp_path / "cache")
        return
    with Embedder(bundle, device) as model:
        assert model.encode("A boat.").shape == (24,)
        for encode in (model.encode, lambda texts: list(model.encode_iter(texts))):
            with pytest.raises(MonographError, match="was due"):
                encode(TEXTS)


@pytest.mark.parametrize("device", DEVICES)
def test_a_graph_of_another_route_is_checked_too(device: str, tmp_path: Path) -> None:
    bundle = change_graph("sparse-routes", tmp_path, first_text_only, "model.1.onnx")
    with opened(bundle, device) as routes:
        [changed] = [one for one in routes.pipelines.values() if one.engine.graph.file == "model.1.onnx"]
        with pytest.raises(MonographError, match="was due"):
            list(changed.outputs(TEXTS))
        assert not verify(routes, read_probes(bundle)).passed


@pytest.mark.parametrize("device", ["openvino", "auto", "cpu"])
@pytest.mark.parametrize(
    "value", [2**31 - 1, *(pytest.param(value, marks=pytest.mark.slow) for value in (-(2**31), 2**62))]
)
def test_a_huge_constant_ends_no_process_of_the_caller(device: str, value: int, tmp_path: Path) -> None:
    """OpenVINO 2026.4 divides by zero, or reads memory that is not there, at some of these."""

    def change(model: onnx.ModelProto, _: str) -> None:
        small = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT64]
        for tensor in small:
            values = numpy_helper.to_array(tensor).copy() if tensor.raw_data else np.array([])
            if values.size:
                values.flat[0] = value
                tensor.raw_data = values.tobytes()

    bundle = change_graph("embedding", tmp_path, change)
    environment = {"MONOGRAPH_CACHE": str(tmp_path / "cache")}
    done = monograph("similarity", bundle, "a boat", "a ship", "--device", device, env=environment)
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr
    verified = monograph("verify", bundle, env=environment)
    assert_error(verified, 1)
