"""A task and an engine are each one object: registered from outside the package, bundles open, encode and verify."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import BundleError, DeviceError, Embedder, load
from monograph import tasks as task_registry
from monograph.commands import main
from monograph.engines import registry
from monograph.engines.registry import register_engine
from monograph.tasks import register_task
from support import toy_engine, toy_task

Edit = Callable[[Callable[[dict[str, Any]], object]], None]
TEXTS = ["The weather is lovely today.", "He drove to the stadium.", "The weather is lovely today.", ""]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register both, and forget them behind the test."""
    monkeypatch.setattr(registry, "_ENGINES", list(registry._ENGINES))
    monkeypatch.setattr(task_registry, "_TASKS", dict(task_registry._TASKS))
    register_engine(toy_engine.ENTRY)
    register_task(toy_task.TOY)


@pytest.fixture
def toy_bundle(bundle_copy: Path, edit_manifest: Edit) -> Path:
    """The tiny bundle, as one of the toy task for the toy's device too."""

    def change(value: dict[str, Any]) -> None:
        value["task"] = "toy"
        value["toy"] = {"dimension": value.pop("embedding")["dimension"], "scale": 2.0}
        value["graphs"][0]["devices"].append("toy")

    edit_manifest(change)
    return bundle_copy


@pytest.fixture
def expected(toy_bundle: Path, tiny_embedder: Embedder) -> np.ndarray[Any, Any]:
    vectors = tiny_embedder.encode(TEXTS)
    return np.stack([vectors.max(axis=1) * 2, vectors.argmax(axis=1)], axis=1)


@pytest.mark.parametrize("device", ["cpu", "toy"])
def test_a_registered_task_encodes_on_any_engine(toy_bundle: Path, expected: Any, device: str) -> None:
    with load(toy_bundle, device=device) as model:
        assert isinstance(model, toy_task.ToyModel)
        assert model.device == device
        results = model.encode(TEXTS)
    np.testing.assert_allclose(results, expected, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "toy"])
def test_verify_runs_a_registered_task_and_engine(
    toy_bundle: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(toy_bundle), "--device", device, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert [result["device"] for result in report["verifications"]] == [device]


def test_verify_finds_a_registered_engine_by_itself(toy_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(toy_bundle), "--json"]) == 0
    devices = {result["device"] for result in json.loads(capsys.readouterr().out)["verifications"]}
    assert {"cpu", "toy"} <= devices


def test_help_and_errors_name_a_registered_engine(toy_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "toy" in capsys.readouterr().out
    with pytest.raises(DeviceError, match="'toy'"):
        load(toy_bundle, device="no-such-device")


def test_info_and_errors_know_a_registered_task(
    toy_bundle: Path, edit_manifest: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(toy_bundle)]) == 0
    assert "scale 2.0" in capsys.readouterr().out
    with pytest.raises(BundleError, match=r"its task is 'toy'.*ToyModel \(monograph toy\)"):
        Embedder(toy_bundle, device="cpu")
    edit_manifest(lambda value: value["toy"].update(scale=-1.0))
    with pytest.raises(BundleError, match=r"toy\.scale must be above 0"):
        load(toy_bundle, device="cpu")
