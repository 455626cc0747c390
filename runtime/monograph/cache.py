"""Where what may be computed or downloaded again is kept."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from monograph.atomic import whole_file
from monograph.errors import InputError

logger = logging.getLogger(__name__)
VARIABLE = "MONOGRAPH_CACHE"
_DIGEST_BYTES = 32


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for what may be deleted at any time: it is made again where it is needed.

    ``cache_dir`` wins, then the variable MONOGRAPH_CACHE, then ``monograph`` in XDG_CACHE_HOME or ``~/.cache``.
    Nothing is created.

    Raises:
        InputError: ``cache_dir`` is not a path.

    """
    if cache_dir is not None:
        if not isinstance(cache_dir, (str, os.PathLike)):
            raise InputError(f"cache_dir must be a str or a path, got {type(cache_dir).__name__}")
        return Path(cache_dir)
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable has relative paths ignored.
    return (Path(shared) if Path(shared).is_absolute() else _home() / ".cache") / "monograph"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A user without an entry in the system's list, as in some containers: the place HOME=/ would give. Where it
        # cannot be written, the error says which variable to set.
        return Path("/")


def read_cached(path: Path) -> bytes | None:
    """Return what ``write_cached`` wrote, None where it is not there, cannot be read, or was damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, value = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return value if hashlib.sha256(value).digest() == digest else None


def write_cached(path: Path, value: bytes) -> None:
    """Keep a value under a path of the cache, behind its hash.

    A cache that cannot be written (read-only, full) is only logged: everything works without it. Processes that write
    the same path at once each leave a whole file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What a power cut leaves does not match its hash.
        with whole_file(path, durable=False) as file:
            file.write(hashlib.sha256(value).digest())
            file.write(value)
    except OSError as error:
        logger.info("the cache %s cannot be written: %s", path, error.strerror)
