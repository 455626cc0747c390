"""What two exports of one checkpoint have alike, whatever threads and instructions their processes use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MEASUREMENTS = "measurements.json"
# Each process has its own threads, instructions, order of sets, time, and folder.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "PYTHONHASHSEED": "1",
}
# Of a thread that waits for its core, the others of a small machine would wait actively.
THREE_THREADS = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "2"}
# Every file but that of the measurements has been written before the verification, which takes most of the time.
EXPORT = """
import json, sys
from monograph_export import export, steps
steps._measure = lambda request, bundle, *_: bundle.manifest.quality
for number, (source, options) in enumerate(json.loads(sys.argv[1])):
    export(source, f"bundle-{number}", show_progress_bar=False, **options)
"""
# Random weights do not keep to the limits that trained ones do.
ANY: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}


def hashes(bundle: Path) -> dict[str, str]:
    """Return the hash of each file that two exports have alike."""
    files = (path for path in bundle.iterdir() if path.name != MEASUREMENTS)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_same_bytes(
    cases: list[tuple[Path, dict[str, Any]]], tmp_path: Path, *restrict: Callable[[], object]
) -> None:
    """Export every case in one process on one thread and in one on several, and compare all files."""
    spelled = json.dumps([(str(source), options) for source, options in cases])
    folders = [tmp_path / "first", tmp_path / "second" / "and-deeper"]
    environments: list[Mapping[str, str]] = [ONE_THREAD, THREE_THREADS]
    for folder, environment in zip(folders, environments, strict=True):
        folder.mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, spelled], cwd=folder, capture_output=True, text=True, check=False,
            env=os.environ | environment, preexec_fn=next(iter(restrict), None) if environment is ONE_THREAD else None,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for number, (source, options) in enumerate(cases):
        first, second = (hashes(folder / f"bundle-{number}") for folder in folders)
        assert len(first) >= 5
        assert first == second, (source, options)
