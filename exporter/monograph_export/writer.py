"""Write a bundle so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monograph.atomic import atomic_folder, find_folder_problem, find_full_disk, sync_folder
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest
from monograph.errors import ExportError
from monograph.progress import BYTES, SILENT, Progress


@contextmanager
def staged(output: Path, progress: Progress = SILENT) -> Iterator[Path]:
    """Give a folder beside ``output``, an absolute path, to write into, and rename it to ``output`` at the end.

    Raises:
        ExportError: ``output`` cannot be written, or another file that the block needs cannot be used.

    """
    folder: Path | None = None
    try:
        with atomic_folder(output) as folder:
            yield folder
            # Before the rename, which finds it done.
            with progress.step("Syncing to disk"):
                sync_folder(folder)
    except OSError as error:
        if folder is not None and _is_elsewhere(error.filename, folder):
            raise ExportError(f"cannot use {error.filename}: {error.strerror}") from error
        raise ExportError(find_full_disk(error, output) or f"cannot write {output}: {error}") from error


def _is_elsewhere(name: object, folder: Path) -> bool:
    """Tell whether an error's file, by name, is one that does not lie in the folder."""
    return isinstance(name, (str, os.PathLike)) and not Path(os.path.abspath(name)).is_relative_to(folder)  # noqa: PTH100


def check_output(output: Path) -> None:
    """Refuse an output that exists, before any work is done.

    Raises:
        ExportError: ``output`` exists and is not an empty folder, or its parent does not exist.

    """
    if obstacle := find_folder_problem(output):
        raise ExportError(obstacle)


def list_files(folder: Path, progress: Progress) -> dict[str, FileEntry]:
    """Return size and hash of every file of a folder, by name; the manifest and the measurements come later."""
    sizes = {path: path.stat().st_size for path in sorted(folder.iterdir())}
    with progress.step("Hashing the files", sum(sizes.values()), BYTES) as step:
        return {path.name: FileEntry(size, sha256_of(path, step.advance)) for path, size in sizes.items()}


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write manifest.json and return its SHA-256."""
    content = manifest.to_file()
    (folder / MANIFEST_FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()
