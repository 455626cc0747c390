"""ONNX Runtime behind the engine interface."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monograph import BundleError, Embedder, MonographError
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, installed_devices, open_engine

# A finder sees the import itself, the last time that anyone looks for the package, and so the variable at that moment.
OPEN_AND_TELL = """
import os, sys
seen = []
class Watch:
    def find_spec(name, *_):
        if name == "onnxruntime":
            seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch)
from monograph import Embedder
assert "onnxruntime" not in sys.modules, "loaded before a bundle needs it"
Embedder(sys.argv[1], device="cpu").close()
print(seen[-1], os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_telemetry_is_off_before_onnxruntime_is_imported(tiny_bundle: Path, before: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if before is not None:
        environment["ORT_DISABLE_TELEMETRY"] = before
    command = [sys.executable, "-c", OPEN_AND_TELL, str(tiny_bundle)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert result.stdout.split() == ["1", "1"]


def test_a_graph_that_cannot_be_loaded_is_a_bundle_error(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    replace_file("model.onnx", (bundle_copy / "model.onnx").read_bytes().replace(b"MatMul", b"NatMul"))
    assert open_bundle(bundle_copy, check="full").path == bundle_copy
    with pytest.raises(BundleError, match=r"ONNX Runtime \S+ cannot load model\.onnx") as caught:
        Embedder(bundle_copy, device="cpu")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__cause__ is not None


def test_weights_that_are_too_short_for_the_graph_are_a_bundle_error(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    replace_file("model.onnx.data", (bundle_copy / "model.onnx.data").read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"model\.onnx has the weights .* beyond the end of model\.onnx\.data"):
        Embedder(bundle_copy, device="cpu")


def test_a_tokenizer_that_cannot_be_loaded_is_a_bundle_error(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    replace_file("tokenizer.json", b'{"version": "1.0"}')
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be loaded"):
        Embedder(bundle_copy, device="cpu")


def test_an_engine_runs_batches_of_any_shape_until_it_is_closed(tiny_bundle: Path, tmp_path: Path) -> None:
    engine = open_engine(open_bundle(tiny_bundle), EngineOptions("cpu", "auto", 1, tmp_path))
    assert (engine.name, engine.device, engine.compute_dtype, engine.threads) == ("onnxruntime", "cpu", "float32", 1)
    for rows, tokens in ((1, 1), (3, 17), (2, 256)):
        inputs = {name: np.ones((rows, tokens), dtype=np.int64) for name in engine.graph.inputs}
        result = engine.run(inputs)
        assert result.shape == (rows, 24)
        assert result.dtype == np.float32
    engine.close()
    engine.close()
    with pytest.raises(MonographError, match="closed"):
        engine.run(inputs)


def test_a_run_that_fails_is_a_monograph_error_of_one_line_with_the_batch_s_shape(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    engine = open_engine(open_bundle(tiny_bundle), EngineOptions("cpu", "auto", 1, tmp_path))
    with pytest.raises(MonographError, match="batch of 3 texts and 17 tokens") as caught:
        engine.run({"input_ids": np.ones((3, 17), dtype=np.int64)})
    assert len(str(caught.value).splitlines()) == 1
    engine.close()


def test_the_installed_devices_have_the_cpu() -> None:
    assert "cpu" in installed_devices()
