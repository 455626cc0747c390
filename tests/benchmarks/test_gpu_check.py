"""The stages of scripts/gpu-check on a CPU, with a tiny model; what needs a GPU is left out there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import tiny

ROOT = Path(__file__).parents[2]


def run(output: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts" / "gpu-check", "--bare", "--output", output, *arguments]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=280
    )


def record(output: Path, stage: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((output / f"{stage}.json").read_text("utf-8"))
    return values


@pytest.mark.slow
def test_stages_run_one_after_the_other_and_write_their_results(tmp_path: Path) -> None:
    output, archive = tmp_path / "results", tmp_path / "results.tar.gz"
    stages = "check,export,out-of-memory,variants"
    done = run(
        *(output, tiny(tmp_path / "model"), "--device", "cpu", "--stages", stages),
        *("--texts", "16", "--work", tmp_path / "work", "--archive", archive),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [record(output, stage)["status"] for stage in stages.split(",")] == ["done", "done", "not on cpu", "done"]
    assert not (output / "bulk.json").exists()
    assert record(output, "check")["missing_packages"] == []
    variants = record(output, "variants")
    assert "built and checked" in variants["packed_graph"]
    assert variants["failures"] == {}
    for workload in variants["results"].values():
        assert len(workload) >= 7
        assert all(figures["worst_cosine"] > 0.9999 for figures in workload.values())
        assert all(len(figures["seconds"]) >= 2 for figures in workload.values())
    assert "| two sessions, bound |" in (output / "summary.md").read_text("utf-8")
    with tarfile.open(archive) as packed:
        assert {"results/variants.json", "results/variants.log", "results/summary.md"} <= set(packed.getnames())


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is a GPU")
def test_what_is_missing_ends_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cuda", "--stages", "check,bulk", "--seconds", "250")
    assert done.returncode == 1
    result = record(tmp_path, "check")
    assert result["status"] == "failed"
    assert "onnxruntime is installed, which has no CUDA" in result["error"]
    assert "there is no NVIDIA driver" in result["error"]
    assert not (tmp_path / "bulk.json").exists()


def test_a_stage_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "--stages", "speed")
    assert done.returncode == 2
    assert "there is no stage speed: choose from check, export, " in done.stderr
