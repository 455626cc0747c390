"""OpenVINO out of order in the processes that are started from now on, as a new version or a damaged graph makes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

_SITE = """
from monograph.engines.openvino import OpenVinoEngine
from monograph.errors import MonographError

run = OpenVinoEngine.run

def fail(engine, inputs, output=None):
    if {dtype!r} in ("", engine.compute_dtype):
        {fault}
    return run(engine, inputs, output)

OpenVinoEngine.run = fail
"""
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
HANG = "import time; time.sleep(1000)"
REFUSE = "raise MonographError('out of order')"

BreakOpenVino = Callable[..., None]


def breaker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> BreakOpenVino:
    """Return a function that has OpenVINO do ``fault`` instead of a run, in one compute dtype or in all.

    It is undone with ``monkeypatch``. ``folder`` is empty, and not needed by others.
    """

    def break_it(fault: str, dtype: str = "") -> None:
        (folder / "sitecustomize.py").write_text(_SITE.format(dtype=dtype, fault=fault))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.getenv("PYTHONPATH")])]))

    return break_it
