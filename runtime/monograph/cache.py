"""The cache: files that can be computed or downloaded again.

What is read from it decides vectors, and engines map parts of it. So only this user and root may be able to write
there: a file is used if it and its folder belong to one of them and are writable by no one else, and if no folder above
belongs to anyone else. Without a cache everything works, slower.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from pathlib import Path

from monograph.atomic import atomic_file
from monograph.errors import InputError, printable
from monograph.json_files import open_regular
from monograph.paths import user_path

logger = logging.getLogger(__name__)
VARIABLE = "MONOGRAPH_CACHE"
# What to do about a cache that cannot be used.
CACHE_ADVICE = f"pass cache_dir or set {VARIABLE} to a folder of your own with enough space"
# Permissions of folders and files of the cache.
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
_DIGEST_BYTES = 32
_MAX_SHOWN = 200
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_HAS_OWNERS = hasattr(os, "geteuid")
_unused: set[str] = set()


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder, whose content may be deleted at any time; it is not created.

    ``cache_dir`` wins, then the variable MONOGRAPH_CACHE, then ``monograph`` in XDG_CACHE_HOME or ``~/.cache``.

    Raises:
        InputError: ``cache_dir`` is not a path, or the home folder of a "~" is unknown.

    """
    if cache_dir is not None:
        if not isinstance(cache_dir, (str, os.PathLike)):
            raise InputError(f"cache_dir must be a str or a path, got {type(cache_dir).__name__}")
        return user_path(cache_dir)
    if variable := os.environ.get(VARIABLE):
        return user_path(variable)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore relative paths.
    if not user_cache.is_absolute():
        try:
            user_cache = Path.home() / ".cache"
        except RuntimeError:
            # The user has no passwd entry, as in some containers: as with HOME=/.
            user_cache = Path("/.cache")
    return user_cache / "monograph"


def usable_cache(cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the cache folder without links in its path, or None where nothing of it can be used; it is not created.

    Why it is not used is logged, once in a process: as a warning if others may have written there, for that may be a
    mistake or an attack; as information if it cannot be reached, as where a service has no home.

    Raises:
        InputError: ``cache_dir`` is not a path.

    """
    folder = cache_folder(cache_dir)
    real, problem, level = _check(folder)
    if not problem:
        return real
    if str(folder) not in _unused:
        _unused.add(str(folder))
        logger.log(level, "the cache %s is not used: %s; %s", printable(folder, _MAX_SHOWN), problem, CACHE_ADVICE)
    return None


def check_cache(folder: Path) -> tuple[Path, str]:
    """Return a folder without links in its path, and why nothing in it can be used, "" if it can.

    It and those above need not exist. Links are the user's to make: what counts is where they lead.
    """
    real, problem, _ = _check(folder)
    return real, problem


def _check(folder: Path) -> tuple[Path, str, int]:
    """Return what ``check_cache`` does, and the level at which a problem is logged."""
    # Where the current folder was deleted, a relative path leads nowhere.
    real = folder
    try:
        # An engine opens files by their path, so those above may not be replaced between the check and that. And
        # without links it cannot be led elsewhere.
        real = Path(os.path.realpath(folder))
        problem = next((problem for above in (*real.parents[::-1], real) if (problem := _problem_of(above))), "")
        return real, problem, logging.WARNING
    except FileNotFoundError:
        return real, "", logging.WARNING
    # A path with a NUL is a ValueError.
    except (OSError, ValueError) as error:
        return folder, getattr(error, "strerror", None) or str(error), logging.INFO


def is_private(path: Path, *, folder: bool) -> bool:
    """Return whether a folder or regular file belongs to this user or root, and no one else may write it.

    Raises:
        OSError: it is not there, or cannot be reached.

    """
    status = path.lstat()
    # A folder of the cache may be this user's link to another disk.
    if folder and stat.S_ISLNK(status.st_mode) and _is_trusted(status):
        status = path.stat()
    return _is_private(status, folder=folder)


def make_private_folder(path: Path) -> None:
    """Make a folder of the cache where it is missing, and those above, for this user alone.

    Raises:
        OSError: it cannot be made.

    """
    if not path.is_dir():
        if path != path.parent:
            make_private_folder(path.parent)
        path.mkdir(PRIVATE_FOLDER, exist_ok=True)


def read_private(path: Path) -> bytes | None:
    """Return the content of a file of the cache, None where it is missing, unreadable or not private."""
    try:
        if not is_private(path.parent, folder=True):
            return None
        with open_regular(path) as file:
            return file.read() if _is_private(os.fstat(file.fileno()), folder=False) else None
    except (OSError, ValueError):
        return None


def read_cached(path: Path) -> bytes | None:
    """Return what ``write_cached`` wrote, None where it is missing, unreadable, damaged or not private."""
    content = read_private(path)
    if content is None:
        return None
    digest, value = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return value if _digest(path, value) == digest else None


def write_cached(path: Path, value: bytes) -> None:
    """Write a value to a path of the cache, with its hash; concurrent writers are safe.

    A failure (read-only, full) is only logged: everything works without the cache.
    """
    try:
        make_private_folder(path.parent)
        # A file truncated by a power cut does not match its hash.
        with atomic_file(path, durable=False, mode=PRIVATE_FILE) as file:
            file.write(_digest(path, value))
            file.write(value)
    except OSError as error:
        logger.info("the cache %s cannot be written: %s", printable(path, _MAX_SHOWN), error.strerror)


def _digest(path: Path, value: bytes) -> bytes:
    """Return the hash of a value and its name, so that no value passes for that of another key."""
    digest = hashlib.sha256(os.fsencode(path.name) + b"\0")
    digest.update(value)
    return digest.digest()


def _is_private(status: os.stat_result, *, folder: bool) -> bool:
    kind = stat.S_ISDIR if folder else stat.S_ISREG
    # Windows shows no one's permission to write but this user's.
    others_write = _HAS_OWNERS and status.st_mode & _OTHERS_WRITE
    return kind(status.st_mode) and _is_trusted(status) and not others_write


def _is_trusted(status: os.stat_result) -> bool:
    return not _HAS_OWNERS or status.st_uid in (os.geteuid(), 0)


def _problem_of(folder: Path) -> str:
    """Return why a folder of the cache or above it is not trusted, "" if it is; raise ``OSError`` if it is none."""
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{printable(folder, _MAX_SHOWN)} is not a folder")
    if not _HAS_OWNERS:
        return ""
    # In a container without root, root's files belong to another number; the owner of / can replace everything.
    if status.st_uid not in (os.geteuid(), 0, Path("/").stat().st_uid):
        return f"{printable(folder, _MAX_SHOWN)} belongs to another user"
    # In a sticky folder others cannot rename what is not theirs. A group is trusted with the folders above.
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"{printable(folder, _MAX_SHOWN)} is writable by all users (chmod o-w)"
    return ""
