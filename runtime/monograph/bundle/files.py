"""Check the files of a bundle: names, links, sizes, hashes."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from monograph.bundle.manifest import WEIGHTS_SUFFIX, FileEntry
from monograph.progress import BYTES, SILENT, Progress

# What is hashed at every opening is bounded: more than all graphs, tokenizers and probes of a bundle have.
_MAX_HASHED_BYTES = 2**30
_BLOCK = 2**20


def sha256_of(path: Path, on_bytes: Callable[[int], object] = lambda _: None) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; ``on_bytes`` gets the size of each block that is done."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def state_of(path: Path) -> tuple[int, ...]:
    """Return what changes with every write to a file, and with every other file in its place.

    A program can set the time of modification, but not that of the last change.

    Raises:
        OSError: there is no such file.

    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_plain_name(name: str) -> bool:
    """Return whether a name denotes a file directly in the folder, on every platform."""
    # Errors quote the name, so it must be printable; that also excludes lone surrogates.
    return name.isprintable() and name not in ("", ".", "..") and not any(character in name for character in "/\\:")


def find_file_problems(
    folder: Path, files: Mapping[str, FileEntry], *, full: bool, progress: Progress = SILENT
) -> dict[str, str]:
    """Compare the files with the manifest's list and return every problem, by the file's name.

    ``full`` hashes all files, as a step of ``progress``; otherwise only the size of the weights is compared, because
    hashing 1.9 GB takes seconds.
    """
    hashed = {name: max(0, entry.bytes) for name, entry in files.items() if not name.endswith(WEIGHTS_SUFFIX)}
    if (total := sum(hashed.values())) > _MAX_HASHED_BYTES:
        return dict.fromkeys(hashed, f"files lists {total:,} bytes beside the weights, more than any bundle has")
    total = sum(max(0, entry.bytes) for entry in files.values())
    with (progress if full else SILENT).step("Hashing the files", total, BYTES) as step:
        problems = {
            name: _find_problem(folder, name, entry, full=full, on_bytes=step.advance) for name, entry in files.items()
        }
    return {name: problem for name, problem in problems.items() if problem is not None}


def _find_problem(
    folder: Path, name: str, entry: FileEntry, *, full: bool, on_bytes: Callable[[int], object]
) -> str | None:
    if not is_plain_name(name):
        return f"{name!r} is not a plain file name and could leave the folder"
    path = folder / name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return f"{name} is a link; a bundle holds real files"
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is not a regular file"
        if status.st_size != entry.bytes:
            return f"{name} has {status.st_size:,} bytes instead of {entry.bytes:,}"
        if (full or not name.endswith(WEIGHTS_SUFFIX)) and sha256_of(path, on_bytes) != entry.sha256:
            return f"{name} was changed: its sha256 is not the manifest's"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return None
