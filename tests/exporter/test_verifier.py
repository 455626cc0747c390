"""An engine that cannot run a bundle does not stand in the way of an export that ONNX Runtime proves right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from monograph.engines import dtypes_of
from monograph.errors import ExportError
from monograph_export import export
from support.command import monograph

# What a process of its own meets when OpenVINO is broken in one way or another.
OUT_OF_ORDER = """
from monograph.engines.openvino import OpenVinoEngine
from monograph.errors import MonographError

run = OpenVinoEngine.run

def fail_at_one_type(engine, inputs):
    if engine.compute_dtype == {dtype!r}:
        {fault}
    return run(engine, inputs)

OpenVinoEngine.run = fail_at_one_type
"""


@pytest.fixture
def break_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Break OpenVINO in the processes that are started from now on."""

    def break_it(fault: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(OUT_OF_ORDER.format(dtype=dtypes_of("openvino")[0], fault=fault))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.getenv("PYTHONPATH")])]))

    return break_it


def test_what_an_engine_cannot_run_is_recorded_and_the_others_are_verified(
    tiny_checkpoint: Path, tmp_path: Path, break_openvino: Callable[[str], None]
) -> None:
    first, *others = dtypes_of("openvino")
    break_openvino("raise MonographError('out of order')")
    bundle = export(tiny_checkpoint, tmp_path / "bundle")
    quality = bundle.manifest.quality
    assert quality.not_run == {f"openvino {first}": "out of order"}
    verified = [(result.engine, result.compute_dtype) for result in quality.verifications]
    assert verified == [("onnxruntime", "float32"), *(("openvino", dtype) for dtype in others)]
    assert f"openvino {first}: out of order" in monograph("info", bundle.path).stdout.decode()


def test_an_engine_that_crashes_does_not_take_the_export_with_it(
    tiny_checkpoint: Path, tmp_path: Path, break_openvino: Callable[[str], None]
) -> None:
    break_openvino("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    quality = export(tiny_checkpoint, tmp_path / "bundle").manifest.quality
    assert [result.engine for result in quality.verifications] == ["onnxruntime"]
    assert "exit status -11" in quality.not_run["openvino"]


def test_an_export_without_onnx_runtime_is_refused_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monograph_export.parity.installed_devices", lambda: ("openvino",))
    with pytest.raises(ExportError, match=r"verified with ONNX Runtime, which is not installed: pip install"):
        export(tiny_checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
