"""An engine that cannot run a bundle does not stand in the way of an export that ONNX Runtime proves right."""

from __future__ import annotations

from pathlib import Path

import pytest

from monograph.engines import dtypes_of
from monograph.errors import ExportError, MonographError
from monograph_export import export
from support.command import monograph


def test_what_an_engine_cannot_run_is_told_and_the_others_get_their_verdict(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = dtypes_of("openvino")
    from monograph.engines.openvino import OpenVinoEngine

    run = OpenVinoEngine.run

    def fail_at_one_type(engine: OpenVinoEngine, inputs: object) -> object:
        if engine.compute_dtype == first:
            raise MonographError("out of order")
        return run(engine, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenVinoEngine, "run", fail_at_one_type)
    bundle = export(tiny_checkpoint, tmp_path / "bundle")
    quality = bundle.manifest.quality
    assert quality["not_run"] == {f"openvino {first}": "out of order"}
    found = [(verdict["engine"], verdict["compute_dtype"]) for verdict in quality["verdicts"]]
    assert found == [("onnxruntime", "float32"), *(("openvino", dtype) for dtype in others)]
    assert f"openvino {first}: out of order" in monograph("info", bundle.path).stdout.decode()


def test_an_export_without_onnx_runtime_is_refused_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monograph_export.pipeline.installed_devices", lambda: ("openvino",))
    with pytest.raises(ExportError, match=r"verified with ONNX Runtime, which is not installed: pip install"):
        export(tiny_checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
