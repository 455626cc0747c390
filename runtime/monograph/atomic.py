"""Write a file or a folder so that it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that takes its place once it is written without an error.

    Raises:
        OSError: it cannot be written; a file that was at ``path`` is left as it was.

    """
    partial = _partial(path)
    try:
        # Closed before the rename, which Windows refuses for an open file. A full disk may show only then.
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside ``path`` to write files into, and rename it to ``path`` at the end.

    An error, an interrupt or a kill before the end leaves no ``path``. After a kill the staging folder, named
    ``.NAME.partial-...``, stays behind and may be deleted.

    Raises:
        OSError: it cannot be written, or ``path`` is there by now and is not an empty folder.

    """
    folder = _partial(path)
    folder.mkdir()
    try:
        yield folder
        _sync(folder)
        # Replaces an empty folder too, and fails where another process was faster.
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")


def _sync(folder: Path) -> None:
    """Have the disk hold every byte before the rename, so that a power cut cannot leave a hollow folder."""
    # Windows syncs only what is open for writing; there the rename alone has to do.
    if os.name == "nt":
        return
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
