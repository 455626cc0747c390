"""Write a file or a folder so that it is there whole or not at all."""

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
def whole_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that takes its place once it is written without an error.

    ``durable`` has the disk hold every byte before the rename, so that a power cut cannot leave a hollow file; who
    recognises such a file and can make it again does without, and is faster.

    Raises:
        OSError: it cannot be written; a file that was at ``path`` is left as it was.

    """
    partial = _partial(path)
    try:
        # Closed before the rename, which Windows refuses for an open file. A full disk may show only then.
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
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside ``path`` to write files into, and rename it to ``path`` at the end.

    An error, an interrupt or a kill before the end leaves no ``path``. After a kill the staging folder, named
    ``.NAME.partial-...``, stays behind; ``remove_left_behind`` deletes it.

    Raises:
        OSError: it cannot be written, or ``path`` is there by now and is not an empty folder.

    """
    folder = _partial(path)
    folder.mkdir()
    try:
        yield folder
        _sync(folder)
        # Untested: Windows renames over nothing at all. rmdir fails, as it should, where the folder is not empty.
        if os.name == "nt" and path.is_dir():
            path.rmdir()
        # Replaces an empty folder too, and fails where another process was faster.
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_left_behind(path: Path) -> None:
    """Delete the staging folders of ``path`` that kills left: those in which nothing was made for a day."""
    for folder in path.parent.glob(f"{glob.escape(_staging_prefix(path))}*"):
        # Another process may be deleting it too.
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def missing_parent(path: Path) -> str:
    """Return why nothing can be written at ``path``, where the folder that is to hold it is not there; else ""."""
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}: make it first"


def folder_obstacle(path: Path) -> str:
    """Return why ``whole_folder`` cannot write ``path``, known before any work is done; "" for nothing."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        return f"{path} exists already: remove it, or choose another name"
    return missing_parent(path)


def _partial(path: Path) -> Path:
    return path.with_name(f"{_staging_prefix(path)}{secrets.token_hex(4)}")


def _staging_prefix(path: Path) -> str:
    return f".{path.name}.partial-"


def _sync(folder: Path) -> None:
    """Have the disk hold every byte before the rename, so that a power cut cannot leave a hollow folder."""
    # Windows syncs only what is open for writing; there the rename alone has to do.
    if os.name == "nt":
        return
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
