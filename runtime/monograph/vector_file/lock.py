"""One writer a file."""

from __future__ import annotations

import errno
import io
import logging
import os
from pathlib import Path

from monograph.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

GUARDED = fcntl is not None
# Another run may end between our two steps a few times in a row; some network file systems never agree with themselves.
_MAX_TRIES = 100


def open_locked(path: Path) -> io.FileIO:
    """Open a file for reading and writing that nobody else can open so until it is closed.

    Where there is none, an empty one is made. Where the system or the file system has no such locks, a warning says
    that the file is not guarded.

    Raises:
        InputError: another process writes the file.
        OSError: it cannot be opened, or cannot be told from another file.

    """
    for _ in range(_MAX_TRIES):
        file = io.FileIO(path, "r+", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))
        try:
            _lock(file, path)
            # The run that held the lock may have renamed or removed the file between our two steps.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    reason = "its inode number is another one each time: this file system cannot hold it, choose another folder"
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
