"""Write a file so that it is there whole or not at all."""

from __future__ import annotations

import secrets
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
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    with partial.open("xb") as file:
        try:
            yield file
            # Here and not at close: a full disk may show only when the last bytes leave the buffer.
            file.flush()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    partial.replace(path)
