"""A short form of scripts/soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import NOT_MEASURED

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_short_soak_has_no_wrong_or_missing_answer() -> None:
    environment = os.environ | NOT_MEASURED | {"PYTHONPATH": str(PROJECT / "tests")}
    command = [sys.executable, str(PROJECT / "scripts" / "soak.py"), "0.2", "--threads", "16"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["failed"] == []
    assert counts["answers"] > 0
