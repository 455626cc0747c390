"""An engine that cannot run a bundle does not stand in the way of an export that ONNX Runtime proves right."""

from __future__ import annotations

from pathlib import Path

import pytest

from monograph.engines import dtypes_of
from monograph.errors import ExportError
from monograph_export import export
from support import checkpoints
from support.broken_engine import CRASH, REFUSE, BreakOpenVino, breaker
from support.command import monograph


@pytest.fixture
def break_openvino(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> BreakOpenVino:
    return breaker(tmp_path_factory.mktemp("site"), monkeypatch)


@pytest.mark.usefixtures("verified_on_every_engine")
def test_what_an_engine_cannot_run_is_recorded_and_the_others_are_verified(
    tiny_checkpoint: Path, tmp_path: Path, break_openvino: BreakOpenVino
) -> None:
    first, *others = dtypes_of("openvino")
    break_openvino(REFUSE, first)
    bundle = export(tiny_checkpoint, tmp_path / "bundle")
    quality = bundle.manifest.quality
    assert quality.not_run == {f"openvino {first}": "out of order"}
    verified = [(result.engine, result.compute_dtype) for result in quality.verifications]
    assert verified == [("onnxruntime", "float32"), *(("openvino", dtype) for dtype in others)]
    assert f"openvino {first}: out of order" in monograph("info", bundle.path).stdout.decode()


@pytest.mark.usefixtures("verified_on_every_engine")
def test_an_engine_that_crashes_does_not_take_the_export_with_it(
    tiny_checkpoint: Path, tmp_path: Path, break_openvino: BreakOpenVino
) -> None:
    break_openvino(CRASH, dtypes_of("openvino")[0])
    quality = export(tiny_checkpoint, tmp_path / "bundle").manifest.quality
    assert [result.engine for result in quality.verifications] == ["onnxruntime"]
    assert "it was ended by SIGSEGV" in quality.not_run["openvino"]


def test_an_export_without_onnx_runtime_is_refused_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monograph_export.parity.installed_devices", lambda: ("openvino",))
    with pytest.raises(ExportError, match=r"verified with ONNX Runtime, which is not installed: pip install"):
        export(tiny_checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_that_mixes_in_the_padding_is_refused_with_that_cause(tmp_path: Path) -> None:
    """FNet has no mask: its Fourier transform is of all positions of a batch."""
    config = {
        "model_type": "fnet",
        "vocab_size": 1002,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 60,
        "pad_token_id": 1,
    }
    body = checkpoints.save_transformer(config, checkpoints.unigram(1000), tmp_path / "transformer")
    with pytest.raises(ExportError, match="padding or a neighbour in its batch changes"):
        export(checkpoints.build_model(body, max_length=60), tmp_path / "bundle")
