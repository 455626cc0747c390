"""The cache: files that can be computed or downloaded again."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from monograph.atomic import atomic_file
from monograph.errors import InputError
from monograph.paths import user_path

logger = logging.getLogger(__name__)
VARIABLE = "MONOGRAPH_CACHE"
_DIGEST_BYTES = 32


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


def read_cached(path: Path) -> bytes | None:
    """Return what ``write_cached`` wrote, None where it is missing, unreadable or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, value = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return value if hashlib.sha256(value).digest() == digest else None


def write_cached(path: Path, value: bytes) -> None:
    """Write a value to a path of the cache, with its hash; concurrent writers are safe.

    A failure (read-only, full) is only logged: everything works without the cache.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file truncated by a power cut does not match its hash.
        with atomic_file(path, durable=False) as file:
            file.write(hashlib.sha256(value).digest())
            file.write(value)
    except OSError as error:
        logger.info("the cache %s cannot be written: %s", path, error.strerror)
