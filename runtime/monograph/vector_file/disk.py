"""Writes that the disk holds before they return, and errors that say which file they are about."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_durably(file: io.FileIO, content: bytes) -> None:
    """Write all of ``content`` where the file stands and have the disk hold it.

    The file has no buffer of Python's or of the C library's, so a full disk cannot hide in one.

    Raises:
        OSError: the content cannot be written, or only in part.

    """
    with _named(file.name):
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Put a file with ``content`` in the place of ``path``; a power cut leaves the old one or the new one.

    What is written meanwhile is named ``NAME.new``: always the same, so that kills leave one such file at most.

    Raises:
        OSError: it cannot be written; the old file is as it was.

    """
    new = path.with_name(f"{path.name}.new")
    try:
        with io.FileIO(new, "w") as file:
            write_durably(file, content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sync_names(folder: Path) -> None:
    """Have the disk hold the names of the folder's files, so that a rename is not undone by a power cut."""
    # Windows cannot open a folder; there the rename alone has to do.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _named(name: object) -> Iterator[None]:
    """Put the file's name into an error of the operating system, which has none where a handle was written to."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(name)) from error
