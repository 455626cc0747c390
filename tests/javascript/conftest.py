"""The JavaScript package: its tests here compare it with Python, and need Node and the built package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "javascript"


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the built package."""
    if shutil.which("node") is None or not (PACKAGE / "dist" / "node.js").exists():
        pytest.skip("Node is not installed, or javascript/ is not built: npm ci && npm run build")
    return PACKAGE
