"""Read texts from a file or standard input, a line at a time: plain lines, or JSON lines."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from monograph.errors import InputError
from monograph.inputs import check_utf8

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextLines:
    """Lines that are read as they are asked for, once.

    Each is a text, or where ``field`` is not None a JSON string or an object that has the text in that field.
    """

    file: BinaryIO
    name: str
    field: str | None

    def __iter__(self) -> Iterator[str]:
        """Yield the texts.

        Raises:
            InputError: a line is not UTF-8, not JSON or has no text; file and line are named.
            OSError: the file cannot be read.

        """
        # Only line feeds end a line: str.splitlines would also cut at a form feed or U+2028 within a text.
        for number, line in enumerate(_without_mark(self.file), start=1):
            text = self._decoded(line.removesuffix(b"\n").removesuffix(b"\r"), number)
            yield text if self.field is None else self._text_of(text, self.field, number)

    def count(self) -> int | None:
        """Return the number of lines yet to be read, without reading them; None where that is not known, as in a pipe.

        Raises:
            OSError: the file cannot be read.

        """
        if not stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
            return None
        start = self.file.tell()
        lines, last = 0, b"\n"
        while chunk := self.file.read(_CHUNK_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
        self.file.seek(start)
        return lines + (last != b"\n")

    def come_from(self, path: Path) -> bool:
        """Tell whether the lines are those of the file at ``path``, by whatever name or redirection."""
        return path.exists() and os.path.samestat(path.stat(), os.fstat(self.file.fileno()))

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name} line {number} is not UTF-8 (byte {error.start} of the line): "
                "convert it, with `iconv -t UTF-8` for example"
            ) from error

    def _text_of(self, line: str, field: str, number: int) -> str:
        if not line.strip():
            raise InputError(f"{self.name} line {number} is empty, not JSON: remove it")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.name} line {number} is not JSON: {error}") from error
        text = value.get(field) if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise InputError(f"{self.name} line {number} has no text in the field {field!r}: name it with --field")
        # JSON can spell what UTF-8 cannot, and only here is the line's number known.
        return check_utf8(text, f"{self.name} line {number}")


@contextmanager
def open_texts(name: str, field: str | None) -> Iterator[TextLines]:
    """Open a file of texts, or standard input for "-".

    ``field`` is where JSON lines have their texts; where it is None, a file named .jsonl has them in "text" and any
    other holds plain lines.

    Raises:
        InputError: standard input is closed.
        OSError: the file cannot be opened.

    """
    if field is None and name.endswith(".jsonl"):
        field = "text"
    if name != "-":
        with Path(name).open("rb") as file:
            yield TextLines(file, name, field)
    elif sys.stdin is None:
        raise InputError("standard input is closed: name a file")
    else:
        yield TextLines(sys.stdin.buffer, "standard input", field)


def _without_mark(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of the file, without the byte order mark that some editors put before the first."""
    first = file.readline().removeprefix(codecs.BOM_UTF8)
    if first:
        yield first
    yield from file
