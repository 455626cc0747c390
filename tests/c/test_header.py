"""c/fetch-onnxruntime-header finds the header that a build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import c_reader

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def _fetch(include: Path) -> subprocess.CompletedProcess[str]:
    command = [str(c_reader.SOURCE / "fetch-onnxruntime-header"), "--offline"]
    environment = os.environ | {"ONNXRUNTIME_INCLUDE": str(include)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_named_folder(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_c_api.h").write_text("#define ORT_API_VERSION 23\n")
    assert _fetch(tmp_path).stdout == f"{tmp_path}\n"


def test_old_and_missing_headers(tmp_path: Path) -> None:
    missing = _fetch(tmp_path)
    (tmp_path / "onnxruntime_c_api.h").write_text("#define ORT_API_VERSION 16\n")
    for done in (missing, _fetch(tmp_path)):
        assert done.returncode == 1
        assert f"{tmp_path} has no onnxruntime_c_api.h of 1.21 or later; set ONNXRUNTIME_INCLUDE" in done.stderr
