"""Write files and folders atomically: complete or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_ABANDONED_SECONDS = 24 * 60 * 60


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that replaces it once it is written without an error.

    ``durable`` syncs it to disk before the rename, so that a power cut cannot leave a truncated file; callers that
    detect such a file and can write it again go without, which is faster.

    Raises:
        OSError: it cannot be written; a file at ``path`` is unchanged.

    """
    partial = _staging_path(path)
    try:
        # Closed before the rename, which Windows refuses for an open file; a full disk may be reported only then.
        with partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a staging folder beside ``path``, and rename it to ``path`` at the end.

    An error, an interrupt or a kill before the end leaves no ``path``. A kill leaves the staging folder, named
    ``.NAME.partial-...``, which ``remove_abandoned`` deletes.

    Raises:
        OSError: it cannot be written, or ``path`` exists by now and is not an empty folder.

    """
    folder = _staging_path(path)
    folder.mkdir()
    try:
        yield folder
        _sync(folder)
        # Untested: Windows never renames over a folder. rmdir fails, as it should, unless it is empty.
        if os.name == "nt" and path.is_dir():
            path.rmdir()
        # Replaces an empty folder, and fails where another process was faster.
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_abandoned(path: Path) -> None:
    """Delete the staging folders of ``path`` left by killed processes: those without a change for a day."""
    for folder in path.parent.glob(f"{glob.escape(_staging_prefix(path))}*"):
        # Another process may delete it at the same time.
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def find_parent_problem(path: Path) -> str:
    """Return a message if the parent folder of ``path`` does not exist, else ""."""
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}: make it first"


def find_folder_problem(path: Path) -> str:
    """Return why ``atomic_folder`` could not write ``path``, "" if it can; for checks before any work."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        return f"{path} exists already: remove it, or choose another name"
    return find_parent_problem(path)


def _staging_path(path: Path) -> Path:
    return path.with_name(f"{_staging_prefix(path)}{secrets.token_hex(4)}")


def _staging_prefix(path: Path) -> str:
    return f".{path.name}.partial-"


def _sync(folder: Path) -> None:
    """Sync the files to disk before the rename, so that a power cut cannot leave truncated ones."""
    # Windows syncs only files that are open for writing.
    if os.name == "nt":
        return
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
