"""Too little memory: one error that names the need and the limit, and never what native code makes of it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from monograph import DeviceError
from monograph.memory import check_memory, is_out_of_memory, out_of_memory
from support.command import assert_error, monograph

_MB = 1_000_000


def _embed(bundle: Path, limit: str, megabytes: int, device: str) -> subprocess.CompletedProcess[bytes]:
    size = megabytes * _MB
    return monograph(
        *("embed", bundle, "--device", device, "--threads", 2),
        stdin=b"a text\nanother one\n",
        before=lambda: resource.setrlimit(getattr(resource, limit), (size, size)),
        # Each of its threads takes 41 MB.
        env={"OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(
    ("limit", "megabytes", "device"),
    [
        ("RLIMIT_DATA", 40, "cpu"),
        ("RLIMIT_DATA", 80, "cpu"),
        ("RLIMIT_DATA", 80, "auto"),
        ("RLIMIT_DATA", 120, "openvino"),
        ("RLIMIT_AS", 80, "cpu"),
        ("RLIMIT_AS", 300, "openvino"),
    ],
)
def test_too_little_memory_is_one_line_with_need_and_limit(
    limit: str, megabytes: int, device: str, tiny_bundle: Path
) -> None:
    ran = _embed(tiny_bundle, limit, megabytes, device)
    needed = f"the limit is {megabytes} MB ({limit}): raise it"
    assert_error(ran, 1, "not enough memory to", "that needs about", needed)
    assert ran.stdout == b""


@pytest.mark.parametrize("limit", ["RLIMIT_DATA", "RLIMIT_AS"])
def test_enough_memory_is_not_refused(limit: str, tiny_bundle: Path) -> None:
    ran = _embed(tiny_bundle, limit, 900, "cpu")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.count(b"\n") == 2


def test_a_step_is_refused_by_what_is_left_of_a_limit() -> None:
    code = (
        "import resource\n"
        "from monograph.memory import check_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (300_000_000, 300_000_000))\n"
        "check_memory(100_000_000, 'think')\n"
        "check_memory(100_000_000, 'think', mapped=10**12)\n"
        "check_memory(400_000_000, 'think')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].startswith(
        "monograph.errors.DeviceError: not enough memory to think: that needs about 400 MB beside the "
    )


def test_without_a_limit_only_a_memory_error_counts_as_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monograph.memory._limit_values", list)
    check_memory(2**60, "open everything")
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("std::bad_alloc"))
    error = out_of_memory(MemoryError(), 0, "go on")
    assert isinstance(error, DeviceError)
    assert str(error) == (
        "not enough memory to go on (MemoryError): the machine has no more: raise the limit, or free memory"
    )
