"""Write files and folders atomically: complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from monograph.staging import staging_file, staging_folder

# The disk itself, and the user's part of it. Windows knows no quota.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def atomic_file(path: Path, *, durable: bool = True, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file beside ``path``, with permissions ``mode`` less the umask, that replaces it at the end.

    An error, an interrupt or a kill before the end leaves a file at ``path`` unchanged; what a kill leaves beside it,
    the next call that writes into the same folder removes.

    ``durable`` syncs it to disk before the rename, so that a power cut cannot leave a truncated file; callers that
    detect such a file and can write it again go without, which is faster.

    Raises:
        OSError: it cannot be written; a file at ``path`` is unchanged.

    """
    with staging_file(path, mode=mode) as (staged, file):
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())
        # Closed before the rename, which Windows refuses for an open file; a full disk may be reported only then.
        file.close()
        staged.replace(path)


@contextmanager
def atomic_folder(path: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Give a staging folder beside ``path``, and rename it to ``path`` at the end.

    An error, an interrupt or a kill before the end leaves no ``path``; what a kill leaves beside it, the next call that
    writes into the same folder removes. ``mode`` less the umask are the folder's permissions.

    Raises:
        OSError: it cannot be written, or ``path`` exists by now and is not an empty folder.

    """
    with staging_folder(path, mode=mode) as folder:
        yield folder
        publish_folder(folder, path)


def publish_folder(folder: Path, path: Path) -> None:
    """Sync the files of a folder to disk and rename it to ``path``, on the same disk.

    Raises:
        OSError: as ``atomic_folder``.

    """
    sync_folder(folder)
    # Untested: Windows never renames over a folder. rmdir fails, as it should, unless it is empty.
    if os.name == "nt" and path.is_dir():
        path.rmdir()
    # Replaces an empty folder, and fails where another process was faster.
    folder.rename(path)


def find_full_disk(error: OSError, path: Path) -> str:
    """Return what to free if ``path`` could not be written for lack of space, "" for any other error."""
    what = f"{path} cannot be written ({error.strerror})"
    if error.errno == errno.EFBIG:
        return f"{what}: raise the limit of file sizes (ulimit -f), or choose a disk for larger files"
    if error.errno not in _FULL:
        return ""
    disk = Path(os.path.realpath(path))
    # Path.is_mount is not there on Windows before Python 3.12.
    while not os.path.ismount(disk):
        disk = disk.parent
    try:
        free = f", which has {shutil.disk_usage(disk).free / 1e6:,.1f} MB left"
    except OSError:
        free = ""
    return f"{what}: free space on the disk {disk}{free}"


def find_parent_problem(path: Path) -> str:
    """Return a message if the parent folder of ``path`` does not exist, else ""."""
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}: make it first"


def find_folder_problem(path: Path) -> str:
    """Return why ``atomic_folder`` could not write ``path``, "" if it can; for checks before any work."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        return f"{path} exists already: remove it, or choose another name"
    return find_parent_problem(path)


def sync_folder(folder: Path) -> None:
    """Sync the files of a folder and of those in it, so that after a rename a power cut cannot leave truncated ones."""
    # Windows syncs only files that are open for writing.
    if os.name == "nt":
        return
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
