"""`monograph pack` and `unpack` as a user runs them."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from monograph.bundle import open_bundle
from support.command import assert_error, monograph, restore_ctrl_c
from support.manifests import state_file


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "monograph", *map(str, arguments)]


def no_room() -> None:
    """Let the process write no file beyond 20,000 bytes, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_bundle_travels_as_one_file(tiny_bundle: Path, tmp_path: Path) -> None:
    packed = monograph("pack", tiny_bundle, tmp_path / "tiny.tar")
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.decode().startswith(f"{tmp_path / 'tiny.tar'}: ")
    unpacked = monograph("unpack", tmp_path / "tiny.tar", tmp_path / "there")
    assert unpacked.returncode == 0, unpacked.stderr
    assert str(tmp_path / "there") in unpacked.stdout.decode()
    assert monograph("similarity", tmp_path / "there", "a", "b").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "tiny.tar"]


def test_errors_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a tar")
    assert_error(monograph("pack", tmp_path, tmp_path / "x.tar"), 1, "not a bundle")
    assert_error(monograph("pack", tiny_bundle, tmp_path / "file"), 1, "exists already")
    assert_error(monograph("unpack", tmp_path / "file", tmp_path / "there"), 1, "not a tar", "monograph pack")
    absent = tmp_path / "x.tar"
    assert_error(monograph("unpack", absent, tmp_path / "there"), 1, f"there is no file {absent}")
    assert_error(monograph("pack", tiny_bundle, tmp_path / "no" / "x.tar"), 1, f"there is no folder {tmp_path / 'no'}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    assert monograph("pack", tiny_bundle, tmp_path / "tiny.tar").returncode == 0
    for arguments in (("pack", tiny_bundle, tmp_path / "x.tar"), ("unpack", tmp_path / "tiny.tar", tmp_path / "there")):
        assert_error(monograph(*arguments, before=no_room), 1, "File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.tar"]


def test_ctrl_c_leaves_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """The archive comes through a pipe that stops in the middle of a file, so that the moment is known."""
    assert monograph("pack", tiny_bundle, tmp_path / "tiny.tar").returncode == 0
    content = (tmp_path / "tiny.tar").read_bytes()
    (tmp_path / "place").mkdir()
    arguments = command("unpack", "/dev/stdin", tmp_path / "place" / "there")
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restore_ctrl_c
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(content[: len(content) // 2])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list((tmp_path / "place").glob(".there.partial-*/content/manifest.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # By then it waits for the rest of a file. A signal in the moment before a wait begins would not end that wait.
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        step, message = process.stderr.read().splitlines()
        assert b"] Unpacking the files: " in step
        assert message == b"monograph: interrupted"
    assert list((tmp_path / "place").iterdir()) == []


def test_the_memory_does_not_grow_with_the_file(tiny_bundle: Path, tmp_path: Path) -> None:
    """A bundle with 200 MB more weights, in a process that reports its peak."""
    import hashlib
    import shutil

    large = Path(shutil.copytree(tiny_bundle, tmp_path / "large"))
    content = bytes(200_000_000)
    (large / "more.onnx.data").write_bytes(content)
    state_file(large, "more.onnx.data", hashlib.sha256(content).hexdigest())
    code = """
import resource, sys
from pathlib import Path
from monograph.bundle.archive import pack_bundle, unpack_bundle
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unpack_bundle(pack_bundle(sys.argv[1], sys.argv[2] + "/large.tar"), sys.argv[2] + "/there")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, large, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000_000
    assert open_bundle(tmp_path / "there", "full").size_bytes > 200_000_000
