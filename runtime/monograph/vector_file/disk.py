"""Durable writes and exclusive files: a full disk, a power cut or a second run cannot damage what was written."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monograph.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HAS_LOCKS = fcntl is not None
# Another run may end between our two steps a few times in a row; some network file systems change inode numbers.
_MAX_TRIES = 100


def open_locked(path: Path) -> io.FileIO:
    """Open a file for reading and writing, with an exclusive lock until it is closed; create it where missing.

    Where the system or the file system has no such locks, a warning is logged.

    Raises:
        InputError: another process writes the file.
        OSError: it cannot be opened or identified.

    """
    for _ in range(_MAX_TRIES):
        file = io.FileIO(path, "r+", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))
        try:
            _lock(file, path)
            # The run that held the lock may have renamed or removed the file before we got it.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    reason = "its inode number changes every time: this file system cannot lock it, choose another folder"
    raise OSError(errno.EIO, reason, str(path))


def _lock(file: io.FileIO, path: Path) -> None:
    if fcntl is None:
        logger.warning("%s is not guarded against a second run: this system has no file locks", path)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{path} is being written by another run: wait for its end, or choose another output"
        ) from error
    except OSError as error:
        logger.warning("%s is not guarded against a second run: %s", path, error.strerror)


def write_durably(file: io.FileIO, content: bytes) -> None:
    """Write all of ``content`` at the file's position and sync it to disk.

    The file is unbuffered, so a full disk cannot go unnoticed in a buffer.

    Raises:
        OSError: the content cannot be written completely.

    """
    with _name_file(file.name):
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Replace a file with ``content``; a power cut leaves the old one or the new one.

    The staging file is always named ``NAME.new``, so that kills leave at most one.

    Raises:
        OSError: it cannot be written; the old file is unchanged.

    """
    new = path.with_name(f"{path.name}.new")
    try:
        with io.FileIO(new, "w") as file:
            write_durably(file, content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk, so that a power cut does not undo a rename."""
    # Windows cannot open a folder.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _name_file(name: object) -> Iterator[None]:
    """Add the file's name to an error of the operating system, which lacks it where a handle was written to."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(name)) from error
