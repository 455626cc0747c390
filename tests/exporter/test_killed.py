"""An export that is killed leaves a complete bundle or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from monograph.bundle import open_bundle
from monograph_export import export
from support.command import forkserver

PROJECT = Path(__file__).parents[2]
# The file whose appearance in the staging folder is the moment of the kill; "" is the folder, None the bundle itself.
MOMENTS = ("", "model.onnx.data", "manifest.json", None)


def kill_when(child: BaseProcess, reached: Callable[[], bool]) -> bool:
    """Kill the child as soon as it has come so far; tell whether it was still running."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not reached():
        if not child.is_alive():
            return False
        time.sleep(0.001)
    child.kill()
    child.join()
    assert time.monotonic() < deadline, "the export hung"
    return True


@pytest.mark.parametrize(
    "moment",
    [moment if moment == "manifest.json" else pytest.param(moment, marks=pytest.mark.slow) for moment in MOMENTS],
)
def test_a_kill_leaves_a_complete_bundle_or_none(moment: str | None, tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"

    def reached() -> bool:
        if moment is None:
            return output.exists()
        return any((folder / moment).exists() for folder in tmp_path.glob(".bundle.partial-*/content"))

    child = forkserver().Process(target=export, args=(tiny_checkpoint, output))
    child.start()
    assert kill_when(child, reached)
    assert output.exists() == (moment is None)
    if moment not in (None, "manifest.json"):
        return
    if moment is not None:
        # What the killed one left behind is no obstacle; once is enough, each has left the same or less.
        export(tiny_checkpoint, output)
    bundle = open_bundle(output, check="full")
    assert bundle.manifest.quality.verifications
    assert len(bundle.manifest.files) == 4


@pytest.mark.slow
def test_kills_at_random_moments_leave_nothing_half_and_one_thing_at_most() -> None:
    """A short form of scripts/kills, which is run by hand with more of them, and for export as well."""
    folders = [str(PROJECT / "tests"), str(PROJECT / "scripts")]
    command = [sys.executable, "-c", "import kills; kills.main()", "--kills", "3", "unpack", "pack", "prepare", "embed"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    counts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["command"] for one in counts] == ["unpack", "pack", "prepare", "embed"]
    assert all(one["kills"] == 3 for one in counts)
