"""Durable writes and exclusive files: a full disk, a power cut or a second run cannot damage what was written."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        InputError: another process writes the file; or it is a link or no file, or another user has put it where all
            may write.
        OSError: it cannot be opened or identified.

    """
    for _ in range(_MAX_TRIES):
        file = io.FileIO(path, "r+", opener=_open_own)
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


def _open_own(name: str, flags: int) -> int:
    """Open a file that this user may continue, or create it; a link is not followed to what it would overwrite."""
    no_links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    advice = "remove it, or choose another output"
    with suppress(FileExistsError):
        return os.open(name, flags | no_links | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        handle = os.open(name, flags | no_links | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and Path(name).is_symlink():
            raise InputError(f"{name} is a link, which is not followed: {advice}") from error
        raise
    status = os.fstat(handle)
    problem = "" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        # As in /tmp. In a folder that is shared with some, another's file may be continued.
        all_write = Path(name).absolute().parent.stat().st_mode & stat.S_IWOTH
        problem = problem or ("belongs to another user" if all_write else "")
    if problem:
        os.close(handle)
        raise InputError(f"{name} {problem}: {advice}")
    return handle


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
    new = _new_path(path)
    try:
        # A new file, and not what a link or another user's file of that name would lead to.
        new.unlink(missing_ok=True)
        with io.FileIO(new, "x") as file:
            write_durably(file, content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def remove_replaceable(path: Path) -> None:
    """Remove a file, if it is there, and what a kill during ``replace_durably`` left beside it."""
    for file in (path, _new_path(path)):
        file.unlink(missing_ok=True)


def _new_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


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
