"""The C reader in c/: built once a session, and run on bundles."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

SOURCE = Path(__file__).resolve().parents[2] / "c"
# Tests with this mark are skipped where the reader cannot run, which is found out by the first of them.
NEEDED = pytest.mark.usefixtures("c_reader_runs")


def why_not() -> str:
    """Return why the C reader cannot be built or run here, "" if it can."""
    for tool in ("make", "cc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if library() is None:
        return "no libonnxruntime.so in the installed onnxruntime"
    if not _has_header():
        return "no header of ONNX Runtime: run c/fetch-onnxruntime-header"
    return ""


def _has_header() -> bool:
    """Say whether the reader can be built; where the header would be downloaded, tests leave that to who runs them."""
    command = [str(SOURCE / "fetch-onnxruntime-header"), "--offline"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@functools.cache
def library() -> Path | None:
    """Return ONNX Runtime's shared library, which its Linux wheels have; MONOGRAPH_ONNXRUNTIME names another."""
    if "MONOGRAPH_ONNXRUNTIME" in os.environ:
        return Path(os.environ["MONOGRAPH_ONNXRUNTIME"])
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    return next(iter(sorted((Path(found.origin).parent / "capi").glob("libonnxruntime.so*"))), None)


@functools.cache
def build(target: str) -> Path:
    """Build a target of c/Makefile, "all" or "sanitized", and return the program."""
    # Processes of pytest-xdist build one after the other.
    (SOURCE / "build").mkdir(exist_ok=True)
    with FileLock(SOURCE / "build" / ".lock"):
        subprocess.run([str(shutil.which("make")), "-s", "-C", str(SOURCE), target], check=True)
    return SOURCE / "build" / ("monograph-c-sanitized" if target == "sanitized" else "monograph-c")


def environment() -> dict[str, str]:
    """Return the environment that programs of the C reader run in."""
    # What ONNX Runtime keeps to the end is not a leak of the reader.
    return os.environ | {"MONOGRAPH_ONNXRUNTIME": str(library()), "ASAN_OPTIONS": "detect_leaks=0"}


def run(
    command: str, bundle: Path, content: bytes = b"", options: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of monograph-c on a bundle with ``content`` on its standard input."""
    return subprocess.run(
        [str(build("all")), command, str(bundle), *options],
        input=content,
        capture_output=True,
        env=environment(),
        check=False,
        timeout=300,
    )


def token_ids(bundle: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts without line breaks and zeros, as the C reader finds them."""
    result = run("tokenize", bundle, "".join(f"{text}\n" for text in texts).encode())
    if result.returncode:
        raise RuntimeError(result.stderr.decode(errors="replace"))
    return [json.loads(line) for line in result.stdout.decode().split("\n")[:-1]]
