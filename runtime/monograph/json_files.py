"""Read untrusted files with a bound: regular ones only, and strict JSON of a limited number of values; write JSON.

json.loads takes 70 times a file's size for one of nothing but empty lists, and accepts what no other reader does.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

# Values of a file, counted by their separators, those within strings included: some 100 MB of Python objects.
_MAX_VALUES = 1_000_000
_SEPARATORS = b"[{,"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# A file is opened only where that cannot wait, and a link is not followed; Windows has neither.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading that is no link, pipe or device, whatever takes its name meanwhile.

    Raises:
        OSError: it cannot be opened, or is a link.
        ValueError: it is not a regular file, or the path holds a null character.

    """
    handle = os.open(path, _OPEN_FLAGS)
    try:
        # Before Python's own check, which leaves the handle of a folder open.
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most ``max_bytes``.

    Raises:
        OSError: it cannot be read, or is a link.
        ValueError: it is larger, or not a regular file.

    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # It may have grown since.
        content = file.read(min(size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it has {max(size, len(content)):,} bytes, and at most {max_bytes:,} are read")
    return content


def parse_json(content: bytes, max_values: int = _MAX_VALUES) -> object:
    """Parse UTF-8 JSON of at most ``max_values`` values, without what readers understand differently.

    Refused are NaN, Infinity and numbers beyond float64, equal names in one object, lone surrogates, a byte order mark,
    and other encodings.

    Raises:
        ValueError: saying what is wrong.

    """
    check_values(content, max_values)
    try:
        text = content.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct)
        if _ESCAPED_SURROGATE.search(content):
            # Encodes every string, which fails at a surrogate without its other half.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"a string holds the lone surrogate U+{ord(error.object[error.start]):04X}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def json_bytes(value: object) -> bytes:
    """Return a value as the JSON of a file that people read, without NaN and infinity.

    Raises:
        ValueError: it has one of these.

    """
    return f"{json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)}\n".encode()


def check_values(content: bytes, max_values: int) -> None:
    """Raise ``ValueError`` if JSON has more than ``max_values`` values, before any memory is taken for them."""
    # A smaller file cannot have as many.
    if len(content) > max_values and len(content) - len(content.translate(None, _SEPARATORS)) > max_values:
        raise ValueError(f"it has more than {max_values:,} values")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is infinite")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return values
