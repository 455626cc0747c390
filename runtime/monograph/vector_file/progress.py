"""The state file beside an incomplete file of vectors: how far the run has come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monograph.errors import InputError
from monograph.fields import Fields
from monograph.vector_file.disk import replace_durably

# Raised when the meaning of a field changes; runs of other versions are not resumed.
STATE_VERSION = 1


@dataclass(frozen=True)
class Progress:
    """The vectors of the first ``texts`` texts are the first ``size`` bytes of the file.

    ``digest`` is the ``TextsDigest`` of the texts, ``settings`` is all else that the vectors depend on.
    """

    settings: Mapping[str, str]
    texts: int
    size: int
    digest: str


class TextsDigest:
    """A running SHA-256 over texts and their boundaries."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.texts = 0

    def add(self, text: str) -> None:
        """Add a text."""
        # A text that is skipped on resumption is not validated, and may hold lone surrogates.
        content = text.encode("utf-8", "surrogatepass")
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content)
        self.texts += 1

    def value(self) -> str:
        """Return the digest of the texts so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the state file; raise ``OSError`` if it cannot be written; the old one is unchanged."""
    value = {
        "state_version": STATE_VERSION,
        "texts": progress.texts,
        "bytes": progress.size,
        "sha256_of_texts": progress.digest,
        "settings": dict(progress.settings),
    }
    replace_durably(path, json.dumps(value, indent=2).encode("ascii") + b"\n")


def read_progress(path: Path) -> Progress | None:
    """Read the state file; return None where there is none.

    Raises:
        InputError: the file is damaged, or of another release.

    """
    if not path.exists():
        return None
    problems: list[str] = []
    try:
        fields = Fields(json.loads(path.read_bytes()), "", problems)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it to start over") from error
    version = fields.need("state_version", int)
    progress = Progress(
        fields.string_map("settings"), fields.need("texts", int), fields.need("bytes", int),
        fields.need("sha256_of_texts", str),
    )  # fmt: skip
    if not problems and version != STATE_VERSION:
        problems.append("it is of another release")
    if not problems and min(progress.texts, progress.size) < 1:
        problems.append("texts and bytes must be at least 1")
    if problems:
        raise InputError(f"{path} is damaged ({'; '.join(problems)}): remove it to start over")
    return progress
