"""Staging files and folders: where they are, and which of them a killed process left.

What will be NAME is ``content`` in the folder ``.NAME.partial-KERNEL-RANDOM`` beside it, whose ``lock`` is held for as
long as its writer lives. The system frees the lock of a process however it ends, so what can be locked is abandoned.
Locks are valid for all containers of a kernel and not for all hosts of a shared disk: what another kernel wrote, and
what cannot be locked, is abandoned after a day without a change.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_STAGED_NAME = re.compile(r"\..+\.partial-(?P<kernel>[0-9a-f]{8})-[0-9a-f]{8}", re.DOTALL)
_LOCK = "lock"
_CONTENT = "content"
_ABANDONED_SECONDS = 24 * 60 * 60
# A run that cleans up may hold the lock of what was just made, for a moment.
_MAX_TRIES = 100
# So that the staging name is not too long where the name itself is not: 255 bytes, of up to four a character.
_MAX_NAME_CHARACTERS = 50
# Windows has no O_NOFOLLOW, other systems no O_BINARY.
_OPEN_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def staging_folder(path: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Give a new empty folder beside ``path``, with permissions ``mode`` less the umask; it is removed at the end.

    What killed processes left in the same parent folder is removed first.

    Raises:
        OSError: the folder cannot be made.

    """
    with _staging_place(path) as content:
        content.mkdir(mode)
        yield content


@contextmanager
def staging_file(path: Path, *, mode: int = 0o666) -> Iterator[tuple[Path, io.BufferedWriter]]:
    """Give the path of a new file beside ``path`` and the file, open for writing; it is removed if it is still there.

    What killed processes left in the same parent folder is removed first.

    Raises:
        OSError: the file cannot be made.

    """
    with (
        _staging_place(path) as content,
        os.fdopen(os.open(content, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, mode), "wb") as file,
    ):
        yield content, file


def remove_abandoned(parent: Path) -> None:
    """Delete what this user's killed processes left in a folder; errors are ignored."""
    with suppress(OSError), os.scandir(parent) as entries:
        staged = [(Path(entry.path), match) for entry in entries if (match := _STAGED_NAME.fullmatch(entry.name))]
        for path, match in staged:
            with suppress(OSError):
                _remove_if_abandoned(path, same_kernel=match["kernel"] == _kernel())


@dataclass
class _Root:
    """A staging folder with a lock that this process holds, or as much of it as is there."""

    path: Path | None = None
    # None also for a system without locks.
    lock: int | None = None

    def make(self, target: Path) -> Path:
        """Make one for ``target``, and return the path of its content."""
        for _ in range(_MAX_TRIES):
            root = target.with_name(f".{target.name[:_MAX_NAME_CHARACTERS]}.partial-{_kernel()}-{secrets.token_hex(4)}")
            # Before it is there: an interrupt may come behind the call that makes it.
            self.path = root
            try:
                root.mkdir(0o700)
            except OSError:
                self.path = None
                raise
            try:
                self.lock = os.open(root / _LOCK, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                # Another run cleaned up between the two steps.
                continue
            if fcntl is None:
                self._close()
                return root / _CONTENT
            if _hold(self.lock, root / _LOCK):
                return root / _CONTENT
            self._close()
        raise OSError(errno.EIO, "this file system loses what was just made: choose another folder", str(target))

    def remove(self) -> None:
        """Remove it, with the lock last."""
        if self.path is None:
            return
        if fcntl is None:
            # Windows removes no open file.
            self._close()
        content = self.path / _CONTENT
        shutil.rmtree(content, ignore_errors=True)
        with suppress(OSError):
            content.unlink()
        if not content.exists():
            (self.path / _LOCK).unlink(missing_ok=True)
        # Before the folder: NFS keeps an open file in it.
        self._close()
        with suppress(OSError):
            self.path.rmdir()

    def _close(self) -> None:
        lock, self.lock = self.lock, None
        if lock is not None:
            os.close(lock)


def _remove_if_abandoned(root: Path, *, same_kernel: bool) -> None:
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or (fcntl is not None and status.st_uid != os.geteuid()):
        return
    try:
        lock = os.open(root / _LOCK, _OPEN_FLAGS)
    except FileNotFoundError:
        # It is without a lock before its writer has made one, and after everything else was removed; the writer
        # expects that it may vanish. A process that outlived its parent may have put something there since.
        if _is_old(root, status):
            _Root(root).remove()
        else:
            root.rmdir()
        return
    locked = _try_lock(lock) if same_kernel else None
    if (locked is None and _is_old(root, status)) or (locked and _is_file(root / _LOCK, lock)):
        _Root(root, lock).remove()
    else:
        os.close(lock)


@contextmanager
def _staging_place(path: Path) -> Iterator[Path]:
    """Give the path of what will be renamed to ``path``; whatever is there at the end is removed."""
    remove_abandoned(path.parent)
    root = _Root()
    try:
        yield root.make(path)
    finally:
        try:
            root.remove()
        except BaseException:
            # An interrupt came meanwhile. A second one ends a command, so this is not interrupted.
            root.remove()
            raise


def _hold(handle: int, path: Path) -> bool:
    """Lock a new file; return whether it is still there and no other run has its lock."""
    return _try_lock(handle) is not False and _is_file(path, handle)


def _try_lock(handle: int) -> bool | None:
    """Lock an open file; return False if another process has the lock, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_file(path: Path, handle: int) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _is_old(root: Path, status: os.stat_result) -> bool:
    changed = max((status.st_mtime, *(path.lstat().st_mtime for path in root.rglob("*"))))
    return changed < time.time() - _ABANDONED_SECONDS


@functools.cache
def _kernel() -> str:
    """Return what tells this running kernel from others: 8 hexadecimal digits."""
    try:
        # Containers have their host's.
        identity = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        identity = platform.node()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
