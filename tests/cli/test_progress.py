"""What commands report of their progress: on a terminal, in a pipe, with --quiet, and at Ctrl-C."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from monograph.engines import dtypes_of
from support.command import assert_reported, monograph
from support.manifests import state_file
from support.terminal import on_terminal

LARGE_BYTES = 2_000_000_000


@pytest.fixture(scope="module")
def verify_steps() -> list[str]:
    """The steps of `verify` on every engine and type; those of OpenVINO run in another process."""
    runs = [("openvino", "openvino:CPU", dtype) for dtype in dtypes_of("openvino")] + [("cpu", "cpu", "float32")]
    steps = ["Hashing the files"]
    for device, full_name, dtype in runs:
        steps += [f"Loading on {device} at {dtype}", f"Verifying on {full_name} at {dtype}"]
    return steps


def test_a_pipe_gets_a_line_for_each_step(tiny_bundle: Path, verify_steps: list[str]) -> None:
    done = monograph("verify", tiny_bundle, "--json")
    assert_reported(done, *verify_steps)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(verify_steps) + 1
    # Every probe alone, and in three ways of batching.
    probes = json.loads(done.stdout)["verifications"][0]["probes"]
    counts = [int(line.rsplit(" ", 2)[1]) for line in lines if "Verifying" in line]
    assert all(4 * probes < count <= 5 * probes for count in counts)


def test_a_terminal_gets_bars_and_keeps_a_line_for_each_step(tiny_bundle: Path, verify_steps: list[str]) -> None:
    session = on_terminal("verify", tiny_bundle)
    assert session.returncode == 0, session.written
    *lines, last = session.lines
    assert [line.partition(":")[0] for line in lines if "Verifying on openvino" not in line] == [
        step for step in verify_steps if "Verifying on openvino" not in step
    ]
    assert [re.sub(r": [\d,]+ texts in [\d.]+ s$", "", line) for line in lines if "Verifying" in line] == [
        step for step in verify_steps if "Verifying" in step
    ]
    assert re.fullmatch(r"finished in [\d.]+ s", last)
    assert re.search(r"Verifying on cpu at float32: +\d+%\|", session.written)
    quiet = on_terminal("verify", tiny_bundle, "--quiet")
    assert (quiet.returncode, quiet.written) == (0, "")
    # Results are the same, and on standard output alone.
    assert quiet.stdout.splitlines()[0] == session.stdout.splitlines()[0]
    assert quiet.stdout.count("\n") == session.stdout.count("\n")


def test_verbose_on_a_terminal_is_lines_among_those_of_the_log(tiny_bundle: Path) -> None:
    session = on_terminal("prepare", tiny_bundle, "--device", "openvino", "-v")
    assert session.returncode == 0, session.written
    assert "\r" not in session.written.replace("\r\n", "\n")
    assert "s] Loading on openvino at auto" in session.written


def test_quiet_reports_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    for arguments in (
        ("pack", tiny_bundle, tmp_path / "tiny.tar"),
        ("unpack", tmp_path / "tiny.tar", tmp_path / "there"),
        ("prepare", tiny_bundle, "--device", "cpu"),
    ):
        done = monograph(*arguments, "--quiet")
        assert (done.returncode, done.stderr) == (0, b"")


def test_packing_is_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    packed = monograph("pack", tiny_bundle, tmp_path / "tiny.tar")
    assert_reported(packed, "Hashing the files: ", "Packing the files: ")
    unpacked = monograph("unpack", tmp_path / "tiny.tar", tmp_path / "there")
    assert_reported(unpacked, "Unpacking the files: ", "Hashing the files: ")


def test_preparing_is_reported_also_from_the_process_that_proves_it(tiny_bundle: Path, tmp_path: Path) -> None:
    done = monograph("prepare", tiny_bundle, "--device", "cpu", env={"MONOGRAPH_CACHE": str(tmp_path)})
    assert_reported(done, "Loading on cpu at auto", "Filling the cache: 1 graph", "Verifying on cpu at float32: ")


@pytest.fixture
def large_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with weights that are hashed for seconds, and of which the disk holds nothing."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "large"))
    with (bundle / "more.onnx.data").open("wb") as file:
        file.truncate(LARGE_BYTES)
    state_file(bundle, "more.onnx.data", "0" * 64)
    return bundle


def test_ctrl_c_leaves_the_terminal_clean(large_bundle: Path) -> None:
    session = on_terminal("verify", large_bundle, interrupt_at=r"Hashing the files: +[1-9]")
    assert session.returncode == 130
    assert session.lines == ["monograph: interrupted"]
    assert session.stdout == ""


def test_an_error_is_the_last_line_and_nothing_is_left_of_the_bar(large_bundle: Path) -> None:
    (large_bundle / "more.onnx.data").write_bytes(b"")
    session = on_terminal("verify", large_bundle)
    assert session.returncode == 1
    assert session.lines[0].startswith("Hashing the files: ")
    assert session.lines[1].startswith("monograph: error: ")
    assert "more.onnx.data has 0 bytes" in "".join(session.lines)
