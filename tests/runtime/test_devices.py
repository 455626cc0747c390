"""device="auto", the verification results that it trusts, and errors for what is not here."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import DeviceError, Embedder
from monograph.bundle import read_probes, write_probes
from monograph.commands.main import main
from monograph.engines import EngineEntry, automatic_devices, dtypes_of, installed_devices, registry
from support.broken_engine import REFUSE, breaker
from support.command import assert_error, monograph

EditManifest = Callable[[Callable[[dict[str, Any]], object]], None]
DTYPES_HERE = dtypes_of("openvino")


def edit_verifications(value: dict[str, Any], device: str, **change: Any) -> None:
    for result in value["quality"]["verifications"]:
        if result["device"] == device:
            result.update(change)


def test_openvino_is_preferred_on_x86(tiny_bundle: Path) -> None:
    assert installed_devices() == ("openvino", "cpu")
    assert automatic_devices() == ("openvino", "cpu")
    with Embedder(tiny_bundle) as model:
        assert (model.device, model.compute_dtype) == ("openvino:CPU", DTYPES_HERE[0])
        assert "openvino:CPU" in repr(model)


def test_verify_leaves_out_devices_that_are_not_for_the_precision(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As CUDA is not for int8; this device is not for float32, and installed where Python is."""
    other = EngineEntry("other", "other", "json", "json", "other", "other", "other", "", precisions={"int8": None})
    monkeypatch.setattr(registry, "_ENGINES", [other, *registry._ENGINES])
    assert installed_devices() == ("other", "openvino", "cpu")
    assert main(["verify", str(tiny_bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["not_run"] == {}
    assert {result["device"] for result in report["verifications"]} == {"openvino:CPU", "cpu"}
    assert main(["verify", str(tiny_bundle), "--device", "other"]) == 1
    assert "has no graph for 'other', which runs int8" in capsys.readouterr().err


def test_openvino_is_not_preferred_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert automatic_devices() == ("cpu",)


def test_auto_says_at_info_what_it_took(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="monograph")
    with Embedder(tiny_bundle) as model:
        assert f"device={model.device!r}" in caplog.text
        assert f"compute_dtype={model.compute_dtype!r}" in caplog.text


def test_auto_with_a_type_takes_the_first_engine_that_has_it(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, compute_dtype="float32") as model:
        assert (model.device, model.compute_dtype) == ("openvino:CPU", "float32")
    with pytest.raises(DeviceError, match=r"no installed engine.*openvino.*not in float16.*cpu.*not in float16"):
        Embedder(tiny_bundle, compute_dtype="float16")


def test_auto_leaves_out_an_engine_that_failed_the_export_s_verification(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(lambda value: edit_verifications(value, "openvino:CPU", passed=False, reason="off by 0.5"))
    with Embedder(bundle_copy) as model:
        assert model.device == "cpu"
    with pytest.raises(DeviceError, match=r"failed verification on 'openvino:CPU'.*\(off by 0\.5\)"):
        Embedder(bundle_copy, "openvino")


@pytest.mark.skipif("bfloat16" not in DTYPES_HERE, reason="this CPU has no bfloat16")
def test_auto_leaves_out_a_type_that_failed_the_export_s_verification(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    def fail_bfloat16(value: dict[str, Any]) -> None:
        for result in value["quality"]["verifications"]:
            if result["compute_dtype"] == "bfloat16":
                result.update(passed=False, reason="wrong at 32 tokens")

    edit_manifest(fail_bfloat16)
    for device in ("auto", "openvino"):
        with Embedder(bundle_copy, device) as model:
            assert (model.device, model.compute_dtype) == ("openvino:CPU", "float32")
    with pytest.raises(DeviceError, match="wrong at 32 tokens"):
        Embedder(bundle_copy, "openvino", "bfloat16")


def test_the_export_verified_every_engine_and_type(tiny_bundle: Path) -> None:
    quality = json.loads((tiny_bundle / "manifest.json").read_bytes())["quality"]
    verified = {(result["device"], result["compute_dtype"]) for result in quality["verifications"]}
    # On the machine that exported it, which may have more types than this one.
    assert verified >= {("cpu", "float32"), ("openvino:CPU", "float32")}
    assert verified <= {("cpu", "float32"), ("openvino:CPU", "float32"), ("openvino:CPU", "bfloat16")}
    assert all(result["passed"] for result in quality["verifications"])


def test_auto_refuses_engines_that_fail_on_the_probes_and_says_by_how_much(
    bundle_copy: Path,
    replace_file: Callable[[str, bytes], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With other reference vectors, every engine is wrong."""
    (probes,) = read_probes(bundle_copy)
    rolled = type(probes)(probes.texts, probes.token_counts, np.roll(probes.vectors, 1, axis=1))
    replace_file("probes.json", write_probes(bundle_copy, [rolled]).read_bytes())
    with pytest.raises(DeviceError, match=r"no installed engine can run.*openvino at float32.*max abs.*cpu at float32"):
        Embedder(bundle_copy, cache_dir=tmp_path / "cache")
    # The error says it all: a warning of each engine beside it would say it twice.
    assert caplog.text == ""
    # An engine that is requested by name is not verified first.
    Embedder(bundle_copy, "cpu").close()


def test_a_verification_result_is_cached_and_trusted_for_the_same_bundle_only(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    Embedder(bundle_copy, cache_dir=cache).close()
    [entry] = (cache / "verifications").iterdir()
    written = entry.stat().st_mtime_ns
    (bundle_copy / "probes.json").chmod(0o600)
    Embedder(bundle_copy, cache_dir=cache).close()
    assert [entry] == list((cache / "verifications").iterdir())
    assert entry.stat().st_mtime_ns == written
    replace_file("probes.json", (bundle_copy / "probes.json").read_bytes() + b" ")
    Embedder(bundle_copy, cache_dir=cache).close()
    assert len(list((cache / "verifications").iterdir())) == 2


WITHOUT = """
import importlib.machinery, sys
from monograph import Embedder, DeviceError
hidden = sys.argv[2].split(",")
class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in hidden else super().find_spec(name, path, target)
sys.meta_path = [Without if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
try:
    print(Embedder(sys.argv[1], sys.argv[3]).device)
except DeviceError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("hidden", "device", "output"),
    [
        ("openvino", "auto", "cpu"),
        ("openvino", "openvino", "device 'openvino' needs openvino: pip install 'monograph[openvino]'"),
        ("onnxruntime", "auto", "openvino:CPU"),
        ("onnxruntime", "cpu", "device 'cpu' needs onnxruntime: pip install 'monograph[onnx]'"),
        (
            "onnxruntime,openvino",
            "auto",
            "no engine is installed: pip install 'monograph[onnx]' or pip install 'monograph[openvino]' or "
            "pip install 'monograph[cuda]'",
        ),
    ],
)
def test_an_engine_that_is_not_installed(tiny_bundle: Path, hidden: str, device: str, output: str) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tiny_bundle), hidden, device]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == output


def test_auto_goes_on_where_an_engine_loads_a_graph_and_cannot_run_it(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker(tmp_path_factory.mktemp("site"), monkeypatch)(REFUSE)
    with Embedder(tiny_bundle, cache_dir=tmp_path) as model:
        assert model.device == "cpu"
    with pytest.raises(DeviceError, match=r"openvino at .* fails on the bundle's probes \(out of order\)"):
        Embedder(tiny_bundle, "openvino", cache_dir=tmp_path)


BROKEN = """
import sys
from monograph import Embedder, DeviceError
try:
    print(Embedder(sys.argv[1], sys.argv[2]).device)
except DeviceError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "kind", "other"), [("openvino", "openvino", "cpu"), ("onnxruntime", "cpu", "openvino:CPU")]
)
def test_a_broken_engine_is_a_device_error_and_auto_goes_on(
    tiny_bundle: Path, tmp_path: Path, package: str, kind: str, other: str
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")

    def output_on(device: str) -> str:
        command = [sys.executable, "-c", BROKEN, str(tiny_bundle), device]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    assert output_on(kind) == (
        f"{package} is installed and cannot be loaded (libtbb.so.12: cannot open shared object file): reinstall it"
    )
    assert output_on("auto") == other


def test_a_folder_that_an_uninstall_left_behind_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind" / "capi").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert not EngineEntry("x", "x", "x", "left_behind", "x", "x", "x", "x").installed
    assert not EngineEntry("x", "x", "x", "not_there_at_all", "x", "x", "x", "x").installed


def test_verify_repeats_a_verification_that_failed(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    """It is what a newer version of an engine is verified with."""
    edit_manifest(lambda value: edit_verifications(value, "openvino:CPU", passed=False, reason="off by 0.5"))
    done = monograph("verify", bundle_copy, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [result["device"] for result in report["verifications"]] == ["openvino:CPU"] * len(DTYPES_HERE) + ["cpu"]
    # At "auto", which users run, it reports the error that they would see.
    refused = monograph("verify", bundle_copy, "--device", "openvino", "--compute-dtype", "auto")
    assert_error(refused, 1, "openvino auto cannot run the bundle", "off by 0.5")


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_device_of_no_known_type_says_so(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr("monograph.engines.openvino.compute_dtypes", lambda _: ())
    with pytest.raises(DeviceError, match="computes in no type that this release knows"):
        Embedder(tiny_bundle, "openvino", dtype)
