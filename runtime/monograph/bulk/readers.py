"""Read the rows of a table in blocks of bounded size with pyarrow, and name the place of what cannot be read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from monograph.bulk.packages import pyarrow
from monograph.bulk.sources import Source
from monograph.errors import InputError, first_line

# Rows that are read together; those of Parquet and CSV come in blocks of about this size.
BLOCK_ROWS = 8192
# Bytes of a CSV or JSON file that are parsed together. A row must fit.
BLOCK_BYTES = 16 << 20
# Parquet's pages are read through a buffer of this size; else a column of a row group would be read as a whole.
_BUFFER_BYTES = 4 << 20
_ARROW_FILE_MAGIC = b"ARROW1"
# What the parsers of CSV and JSON say of a row that is longer than a block.
_TOO_LONG = ("straddling object", "straddles")


@dataclass(frozen=True)
class Block:
    """Rows that were read together, a ``pyarrow.RecordBatch``.

    ``place`` is what errors call the group that they are of, and ``first`` the place of the first row in this group.
    """

    rows: Any
    place: str
    first: int = 0


@dataclass(frozen=True)
class Table:
    """An open source: the schema of all its columns, and blocks in order of those that are read.

    ``rows`` is their number, None where only reading tells.
    """

    schema: Any
    rows: int | None
    blocks: Iterator[Block]


@contextmanager
def open_table(
    source: Source, columns: Sequence[str] | None, types: Mapping[str, Any] | None = None
) -> Iterator[Table]:
    """Open a source to read some of its columns, in the order of its schema; None for all.

    Columns that the source does not have are left out. ``types`` are those that columns of CSV and JSON lines are read
    as; the others get the type of their first 16 MiB.

    Raises:
        InputError: the source is empty, not what its name says, or damaged; file and place are named.
        OSError: it cannot be opened.

    """
    with ExitStack() as stack:
        if source.path.stat().st_size == 0:
            # A table without rows has at least a header, except for JSON lines, which then do not say their columns.
            raise InputError(f"{source.path} is empty, without even the names of its columns: remove it")
        with _named(str(source.path)):
            types = types or {}
            if source.kind == "jsonl":
                types = _types_of_json(source, types)
            file = stack.enter_context(_opened(source))
            if source.kind == "parquet":
                table = _open_parquet(file, source, columns)
            elif source.kind == "arrow":
                table = _open_arrow(file, source, columns)
            else:
                table = _open_text(file, source, columns, types)
        yield table


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    """Give the content of a source as a pyarrow file. Kinds that are read from their end are unpacked into a file."""
    with ExitStack() as stack:
        raw = stack.enter_context(pyarrow.OSFile(str(source.path), "rb"))
        if source.compression is None:
            yield raw
            return
        stream = stack.enter_context(pyarrow.CompressedInputStream(raw, source.compression))
        if source.kind not in ("parquet", "arrow"):
            yield stream
            return
        unpacked: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(stream, unpacked, BLOCK_BYTES)
        unpacked.seek(0)
        yield stack.enter_context(pyarrow.PythonFile(unpacked, "rb"))


def _open_parquet(file: Any, source: Source, columns: Sequence[str] | None) -> Table:
    parquet = pyarrow.parquet.ParquetFile(
        file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
    )
    schema = parquet.schema_arrow
    names = _present(schema, columns)

    def blocks() -> Iterator[Block]:
        for number in range(parquet.num_row_groups):
            place = f"row group {number}"
            # Threads would read columns ahead.
            rows = _rows_of_block(parquet.metadata.row_group(number), names)
            batches = parquet.iter_batches(rows, row_groups=[number], columns=names, use_threads=False)
            yield from _blocks(batches, source, place)

    return Table(schema, parquet.metadata.num_rows, blocks())


def _rows_of_block(row_group: Any, names: Sequence[str]) -> int:
    """Return how many rows of a row group are about ``BLOCK_BYTES``, by its statistics."""
    columns = [row_group.column(place) for place in range(row_group.num_columns)]
    size: int = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in names)
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES * int(row_group.num_rows) // max(1, size)))


def _open_arrow(file: Any, source: Source, columns: Sequence[str] | None) -> Table:
    start = file.read(len(_ARROW_FILE_MAGIC))
    file.seek(0)
    if start == _ARROW_FILE_MAGIC:
        reader = pyarrow.ipc.open_file(file)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        count = None
    else:
        # Of `datasets`, and of others that write as they go.
        reader = pyarrow.ipc.open_stream(file)
        batches, count = iter(reader), None
    names = _present(reader.schema, columns)

    def blocks() -> Iterator[Block]:
        number = -1
        while True:
            number += 1
            place = f"record batch {number}"
            with _named(f"{source.path} {place}"):
                batch = next(batches, None)
                if batch is None:
                    return
                batch = batch.select(names)
            for first in range(0, batch.num_rows, BLOCK_ROWS):
                yield Block(batch.slice(first, BLOCK_ROWS), place, first)

    return Table(reader.schema, count, blocks())


def _types_of_json(source: Source, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of the columns that JSON lines have. A schema would add the others to them, empty."""
    with _opened(source) as file:
        names = pyarrow.json.open_json(file, _json_options()).schema.names
    return {name: kind for name, kind in types.items() if name in names}


def _json_options() -> Any:
    return pyarrow.json.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)


def _open_text(file: Any, source: Source, columns: Sequence[str] | None, types: Mapping[str, Any]) -> Table:
    """Open CSV or TSV with a header, or JSON lines."""
    if source.kind == "jsonl":
        schema = pyarrow.schema(list(types.items())) if types else None
        reader = pyarrow.json.open_json(file, _json_options(), pyarrow.json.ParseOptions(explicit_schema=schema))
    else:
        reader = pyarrow.csv.open_csv(
            file,
            pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            # A line feed in quotes belongs to a text.
            pyarrow.csv.ParseOptions(delimiter="\t" if source.kind == "tsv" else ",", newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=dict(types)),
        )
    names = _present(reader.schema, columns)

    def blocks() -> Iterator[Block]:
        done = 0
        batches = iter(reader)
        while True:
            place = f"rows from {done:,}"
            with _named(f"{source.path} {place}"):
                batch = next(batches, None)
                if batch is None:
                    return
                batch = batch.select(names)
            for first in range(0, batch.num_rows, BLOCK_ROWS):
                yield Block(batch.slice(first, BLOCK_ROWS), f"rows from {done + first:,}")
            done += batch.num_rows

    return Table(reader.schema, None, blocks())


def _blocks(batches: Iterator[Any], source: Source, place: str) -> Iterator[Block]:
    first = 0
    while True:
        with _named(f"{source.path} {place}"):
            batch = next(batches, None)
        if batch is None:
            return
        yield Block(batch, place, first)
        first += batch.num_rows


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the file, and the place in it, in what pyarrow says of it."""
    try:
        yield
    except pyarrow.ArrowException as error:
        raise _unreadable(name, error) from error
    except OSError as error:
        # pyarrow has no other error for damaged pages. Those of the system have a number.
        if error.errno is not None:
            raise
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: BaseException) -> InputError:
    message = first_line(error)
    if any(sign in message for sign in _TOO_LONG):
        return InputError(
            f"{name} has a row of more than {BLOCK_BYTES >> 20} MiB, which is not read ({message}): shorten it, or "
            "convert the file to Parquet"
        )
    return InputError(f"{name} cannot be read ({message}): check or write it again")


def _present(schema: Any, columns: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(schema.names)) if columns is None else [n for n in schema.names if n in set(columns)]
