"""API keys, from a file with one key a line."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from monograph.errors import InputError, printable

logger = logging.getLogger(__name__)
_MAX_BYTES = 1_000_000
# Of a secret that is neither a word nor a date.
_MIN_CHARACTERS = 8
_SCHEME = "bearer"


class ApiKeys:
    """The keys that a client may send as ``Authorization: Bearer KEY``; without a file, none is needed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._digests: tuple[bytes, ...] = () if path is None else _read(path)

    @property
    def are_required(self) -> bool:
        """Whether a request needs a key."""
        return self._path is not None

    def accept(self, authorization: str) -> bool:
        """Return whether a header has one of the keys; it takes as long for any wrong key."""
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.strip())
        # All are compared, whichever it is.
        equal = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == _SCHEME and any(equal)

    def reload(self) -> None:
        """Read the file again; the keys remain as they were where it cannot be used."""
        if self._path is None:
            return
        try:
            self._digests = _read(self._path)
        except InputError as error:
            logger.error("the API keys remain those before: %s", error)  # it is one line
        else:
            logger.warning("%d API keys were read", len(self._digests))


def _read(path: Path) -> tuple[bytes, ...]:
    """Return the digests of a file's keys.

    Raises:
        InputError: it cannot be read, or has no keys, or one that is too short.

    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise InputError(f"the file of API keys {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the file of API keys {path} is not UTF-8: write one key a line") from error
    if len(content) > _MAX_BYTES:
        raise InputError(f"the file of API keys {path} has more than {_MAX_BYTES:,} bytes: write one key a line")
    lines = [line.strip() for line in text.splitlines()]
    keys = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"the file of API keys {printable(path)} has none: write one key a line")
    for number, line in enumerate(lines, 1):
        if line in keys and (len(line) < _MIN_CHARACTERS or not line.isascii() or " " in line):
            raise InputError(
                f"line {number} of the file of API keys {printable(path)} is no key: one has at least "
                f"{_MIN_CHARACTERS} ASCII characters without spaces, as `openssl rand -hex 32` writes"
            )
    return tuple(map(_digest, keys))


def _digest(key: str) -> bytes:
    # Of equal length for all, and what is compared says nothing of a key.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
