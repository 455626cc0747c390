"""Hostile bundles, each a good one with one change, which every reader must refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

# They register their changes.
from conformance.hostile import contents, files, graphs, manifests
from conformance.hostile.changes import CHANGES

# What only a reader of folders meets: the web has no links, and measurements.json is not read from it.
_OF_FOLDERS = ("link-", "measurements-")

__all__ = ["contents", "files", "graphs", "manifests", "write_hostile"]


def write_hostile(bundle: Path, folder: Path) -> dict[str, dict[str, object]]:
    """Write every hostile bundle as a changed copy of ``bundle``; return by name what was done, and the features."""
    for name, change in CHANGES.items():
        copy = folder / name
        shutil.copytree(bundle, copy)
        (copy / "measurements.json").unlink(missing_ok=True)
        change(copy)
    return {
        name: {"change": name.replace("-", " "), "features": ["folder"] if name.startswith(_OF_FOLDERS) else []}
        for name in CHANGES
    }
