"""Write a bundle so that it is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monograph.atomic import whole_folder
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest
from monograph.errors import ExportError


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Give a folder beside ``output``, an absolute path, to write into, and rename it to ``output`` at the end.

    Raises:
        ExportError: ``output`` cannot be written.

    """
    try:
        with whole_folder(output) as folder:
            yield folder
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error}") from error


def check_output(output: Path) -> None:
    """Refuse an output that exists, before any work is done.

    Raises:
        ExportError: ``output`` exists and is not an empty folder, or its parent does not exist.

    """
    if not output.parent.is_dir():
        raise ExportError(f"there is no folder {output.parent}: make it first")
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise ExportError(f"{output} exists already: remove it, or choose another name")


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and hash of every file of a folder but the manifest, by name."""
    return {
        path.name: FileEntry(path.stat().st_size, sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    content = json.dumps(manifest.to_json(), ensure_ascii=False, indent=2)
    (folder / MANIFEST_FILE).write_text(content + "\n", encoding="utf-8")
