"""A bundle is proven in a process of its own before an engine opens it that a damaged graph may crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import get_context, spawn
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, DeviceError, Embedder, prepare
from monograph.bundle import open_bundle
from monograph.commands.main import main
from monograph.cpu import available_cpus
from monograph.engines import EngineOptions
from monograph.inference import verifier_process
from monograph.inference.verifier_process import prove, verify_in_subprocess
from support.broken_engine import CRASH, HANG, BreakOpenVino, breaker

EditManifest = Callable[[Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def break_openvino(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> BreakOpenVino:
    return breaker(tmp_path_factory.mktemp("site"), monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def proofs(cache: Path) -> set[Path]:
    return set((cache / "verifications").glob("*"))


def refuse_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "get_executable", lambda: b"python-that-is-not-there")


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_crash_is_a_device_error_and_auto_goes_on(
    tiny_bundle: Path, cache: Path, break_openvino: BreakOpenVino, dtype: str
) -> None:
    break_openvino(CRASH)
    with pytest.raises(
        DeviceError, match=r"device 'openvino' failed on bundle .*\(it was ended by SIGSEGV\)"
    ) as caught:
        Embedder(tiny_bundle, "openvino", dtype, cache_dir=cache)
    assert "\n" not in str(caught.value)
    with Embedder(tiny_bundle, "auto", dtype, cache_dir=cache) as model:
        assert model.device == "cpu"
        assert model.encode("A boat.").shape == (24,)
    # What OpenVINO failed on was proven again, and ONNX Runtime in a process of its own.
    assert not proofs(cache)


def test_a_crash_fails_verify(
    tiny_bundle: Path, break_openvino: BreakOpenVino, capsys: pytest.CaptureFixture[str]
) -> None:
    break_openvino(CRASH, "float32")
    assert main(["verify", str(tiny_bundle), "--json", "--compute-dtype", "float32"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    assert "ended by SIGSEGV" in report["not_run"]["openvino float32"]
    assert [result["device"] for result in report["verifications"]] == ["cpu"]


def test_a_crash_fails_prepare(tiny_bundle: Path, cache: Path, break_openvino: BreakOpenVino) -> None:
    break_openvino(CRASH)
    with pytest.raises(DeviceError, match="ended by SIGSEGV"):
        prepare(tiny_bundle, "openvino", cache_dir=cache)
    assert not proofs(cache)


def test_what_hangs_is_ended(
    tiny_bundle: Path, cache: Path, break_openvino: BreakOpenVino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_process, "_SECONDS", 1)
    break_openvino(HANG)
    with pytest.raises(DeviceError, match=r"it took longer than 1 seconds\): the machine may be busy, so try again"):
        Embedder(tiny_bundle, "openvino", cache_dir=cache)


def test_what_passed_is_not_computed_again(tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Embedder(tiny_bundle, "openvino", cache_dir=cache).close()
    first = proofs(cache)
    refuse_to_start(monkeypatch)
    for device, dtype in ("openvino", "auto"), ("auto", "auto"):
        with Embedder(tiny_bundle, device, dtype, cache_dir=cache) as model:
            assert model.device == "openvino:CPU"
    with pytest.raises(DeviceError, match="python-that-is-not-there cannot be started"):
        Embedder(tiny_bundle, "openvino", cache_dir=cache / "another")
    assert proofs(cache) == first


@pytest.mark.parametrize("change", ["other bytes", "another file of the same bytes", "the same time as before"])
def test_other_weights_of_the_same_size_are_proven_again(
    bundle_copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    Embedder(bundle_copy, "openvino", cache_dir=cache).close()
    weights = bundle_copy / "model.onnx.data"
    content, status = bytearray(weights.read_bytes()), weights.stat()
    if change == "another file of the same bytes":
        shutil.copy2(weights, bundle_copy.parent / "copy")
        (bundle_copy.parent / "copy").replace(weights)
    else:
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    if change == "the same time as before":
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    refuse_to_start(monkeypatch)
    with pytest.raises(DeviceError, match="cannot be started"):
        Embedder(bundle_copy, "openvino", cache_dir=cache)


def test_a_manifest_that_says_verified_is_not_taken_at_its_word(
    bundle_copy: Path, edit_manifest: EditManifest, cache: Path, break_openvino: BreakOpenVino
) -> None:
    edit_manifest(lambda value: [result.update(passed=True) for result in value["quality"]["verifications"]])
    break_openvino(CRASH)
    with pytest.raises(DeviceError, match="ended by SIGSEGV"):
        Embedder(bundle_copy, "openvino", cache_dir=cache)


def test_a_cache_that_cannot_be_written_only_costs_time(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        with Embedder(tiny_bundle, "openvino", "float32", cache_dir=tmp_path / "file") as model:
            assert model.encode("A boat.").shape == (24,)


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/opt/app/app.exe"])
def test_no_other_program_is_started_in_the_place_of_python(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    """As in an application that embeds Python."""
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(spawn, "get_executable", lambda: os.fsencode(executable))
    with pytest.raises(DeviceError, match=r"no Python interpreter.*multiprocessing\.set_executable"):
        Embedder(tiny_bundle, "openvino", cache_dir=cache)
    with Embedder(tiny_bundle, cache_dir=cache) as model:
        assert model.device == "cpu"


def test_a_frozen_application_is_not_started_again(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(DeviceError, match="no Python interpreter"):
        Embedder(tiny_bundle, "openvino", cache_dir=cache)


def test_a_program_that_answers_something_else_is_an_error(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, problem in ("/bin/echo", "what it answered is no JSON"), ("/bin/true", "it gave no answer"):
        monkeypatch.setattr(spawn, "get_executable", lambda program=program: os.fsencode(program))
        with pytest.raises(DeviceError, match=problem):
            Embedder(tiny_bundle, "openvino", cache_dir=cache)


def test_an_interrupt_ends_the_process_and_leaves_no_zombie(
    tiny_bundle: Path, cache: Path, break_openvino: BreakOpenVino
) -> None:
    break_openvino(HANG)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Embedder(tiny_bundle, "openvino", cache_dir=cache)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, previous)
    assert not children_of_this_process()


def children_of_this_process() -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == str(os.getpid()) and (not line or "verifier_process" in line):
            found.append(line)
    return found


def open_in_a_thread(bundle: Path, cache: Path) -> None:
    def work() -> None:
        with Embedder(bundle, "openvino", "float32", cache_dir=cache) as model:
            shapes.append(model.encode("A boat.").shape)

    shapes: list[tuple[int, ...]] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert shapes == [(24,)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemon_process_proves_as_others_do(tiny_bundle: Path, cache: Path, method: str) -> None:
    # A process that has not started OpenVINO, of which the test's own may have.
    outer = get_context("spawn").Process(target=run_daemon, args=(method, tiny_bundle, cache))
    outer.start()
    outer.join()
    assert outer.exitcode == 0
    assert proofs(cache)


def run_daemon(method: str, bundle: Path, cache: Path) -> None:
    context: Any = get_context(method)
    process = context.Process(target=open_in_a_thread, args=(bundle, cache), daemon=True)
    process.start()
    process.join()
    sys.exit(process.exitcode)


def test_nothing_is_printed_and_no_stdin_is_read(
    tiny_bundle: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Embedder(tiny_bundle, "openvino", cache_dir=cache).close()
    assert capfd.readouterr() == ("", "")


def test_the_error_of_a_graph_is_the_one_that_the_engine_gives_here(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None], cache: Path
) -> None:
    replace_file("model.onnx", (bundle_copy / "model.onnx").read_bytes().replace(b"MatMul", b"NatMul"))
    with pytest.raises(BundleError, match=r"OpenVINO .* cannot load model\.onnx"):
        Embedder(bundle_copy, "openvino", cache_dir=cache)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_a_whole_verification_is_the_same_in_a_process_of_its_own(tiny_bundle: Path, device: str) -> None:
    options = EngineOptions(device, "float32", available_cpus(), None)
    result = verify_in_subprocess(open_bundle(tiny_bundle), options)
    assert result.passed, result.reason
    assert (result.compute_dtype, result.device) == ("float32", "openvino:CPU" if device == "openvino" else "cpu")
    assert {case.case for case in result.cases} >= {"alone, unpadded", "batched by length"}
    assert prove(open_bundle(tiny_bundle), options) == "float32"
