"""Read texts from a file or standard input line by line: plain lines, or JSON lines."""

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
from monograph.paths import user_path

_CHUNK_BYTES = 1 << 20
_NAME_IT = "name it by its kind, and `monograph embed` reads it as a table"
_UNPACK = "unpack it first, as with `zcat FILE | monograph embed BUNDLE`"
_CONVERT = "convert it to Parquet or CSV"
# What files begin with that are mistaken for lines: their kind, and what to do.
_MAGIC = {
    b"PAR1": ("a Parquet file", _NAME_IT),
    b"ARROW1": ("an Arrow file", _NAME_IT),
    b"\x1f\x8b": ("compressed by gzip", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", _UNPACK),
    b"BZh": ("compressed by bzip2", _UNPACK),
    b"\xfd7zXZ": ("compressed by xz", _UNPACK),
    b"PK\x03\x04": ("a zip archive, as spreadsheets are", _CONVERT),
    b"%PDF-": ("a PDF file", "extract its text"),
    b"Obj\x01": ("an Avro file", _CONVERT),
    b"ORC": ("an ORC file", _CONVERT),
}


@dataclass(frozen=True)
class TextLines:
    """Lines that are read lazily and once.

    Each is a text, or where ``field`` is not None a JSON string or an object with the text in that field.
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
        self._check_magic()
        # Only line feeds end a line: str.splitlines would also split at a form feed or U+2028 within a text.
        for number, line in enumerate(_skip_bom(self.file), start=1):
            text = self._decode(line.removesuffix(b"\n").removesuffix(b"\r"), number)
            yield text if self.field is None else self._parse_json(text, self.field, number)

    def count(self) -> int | None:
        """Return the number of lines not yet read, None where it is unknown, as for a pipe."""
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
        """Return whether ``path`` is the file that is read, under any name or redirection."""
        return path.exists() and os.path.samestat(path.stat(), os.fstat(self.file.fileno()))

    def _check_magic(self) -> None:
        """Raise ``InputError`` for a file of another kind, which may hold some lines that are UTF-8."""
        peek = getattr(self.file, "peek", None)
        start = b"" if peek is None else peek(8)
        for magic, (kind, advice) in _MAGIC.items():
            if start.startswith(magic):
                raise InputError(f"{self.name} is {kind}, not lines of text: {advice}")

    def _decode(self, line: bytes, number: int) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name} line {number} is not UTF-8 (byte {error.start} of the line): "
                "convert it, with `iconv -t UTF-8` for example"
            ) from error

    def _parse_json(self, line: str, field: str, number: int) -> str:
        if not line.strip():
            raise InputError(f"{self.name} line {number} is empty, not JSON: remove it")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.name} line {number} is not JSON: {error}") from error
        text = value.get(field) if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise InputError(f"{self.name} line {number} has no text in the field {field!r}: name it with --field")
        # JSON escapes can hold lone surrogates, and only here is the line's number known.
        return check_utf8(text, f"{self.name} line {number}")


@contextmanager
def open_texts(name: str, field: str | None) -> Iterator[TextLines]:
    """Open a file of texts, or standard input for "-".

    ``field`` is the field of the texts in JSON lines. None means "text" for a file named .jsonl, and plain lines for
    any other.

    Raises:
        InputError: standard input is closed, or the home folder of a "~" is unknown.
        OSError: the file cannot be opened.

    """
    if field is None and name.endswith(".jsonl"):
        field = "text"
    if name != "-":
        with user_path(name).open("rb") as file:
            yield TextLines(file, name, field)
    elif sys.stdin is None:
        raise InputError("standard input is closed: name a file")
    else:
        yield TextLines(sys.stdin.buffer, "standard input", field)


def _skip_bom(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of the file without its byte order mark."""
    first = file.readline().removeprefix(codecs.BOM_UTF8)
    if first:
        yield first
    yield from file
