"""Hostile bundles, each a good one with one change, which every reader must refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

# They register their changes.
from conformance.hostile import contents, files, graphs, manifests
from conformance.hostile.changes import CHANGES

__all__ = ["contents", "files", "graphs", "manifests", "write_hostile"]


def write_hostile(bundle: Path, folder: Path) -> dict[str, str]:
    """Write every hostile bundle as a changed copy of ``bundle``; return what was done to each, by name."""
    for name, change in CHANGES.items():
        copy = folder / name
        shutil.copytree(bundle, copy)
        (copy / "measurements.json").unlink(missing_ok=True)
        change(copy)
    return {name: name.replace("-", " ") for name in CHANGES}
