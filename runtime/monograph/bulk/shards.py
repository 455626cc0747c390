"""One shard: a table in, a table of vectors out, whole or not at all, and never again once it is done."""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from monograph.atomic import atomic_file, atomic_folder, find_full_disk
from monograph.bulk.encoder import Encoder
from monograph.bulk.formats import WRITERS, metadata_path, read_metadata
from monograph.bulk.overlap import ahead, behind
from monograph.bulk.readers import BLOCK_BYTES, BLOCK_ROWS, Table, open_table
from monograph.bulk.rows import Selection, Texts, check_compatible, select
from monograph.bulk.sources import Source
from monograph.bulk.writers import Layout, ShardWriter, encode_metadata
from monograph.errors import InputError, MonographError
from monograph.inputs import UnusableTextError
from monograph.vector_file.settings import describe_changes
from monograph.version import __version__

# Raised when the same settings give other files; finished shards of other versions are not taken for finished.
METADATA_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """A source and the file that its vectors are written to."""

    source: Source
    output: Path


@dataclass(frozen=True)
class Job:
    """What all shards of a run have in common; picklable.

    ``carried`` is the schema of the columns that the outputs keep, and ``carried_from`` the file that it is of.
    ``column`` is the name of the vectors' column and ``file_format`` a key of ``WRITERS``. With ``replace``, outputs of
    other settings are written again, and without it they are an error.
    """

    selection: Selection
    carried: Any
    carried_from: str
    column: str
    file_format: str
    replace: bool = False


@dataclass(frozen=True)
class ShardResult:
    """A shard that is done: its rows, how many seconds it took, and whether it had been done before."""

    output: Path
    rows: int
    seconds: float
    skipped: bool


def embed_shard(shard: Shard, job: Job, encoder: Encoder) -> ShardResult:
    """Write the vectors of a source, unless they are there.

    Reading and writing overlap with computing. Memory is bounded by a few blocks, whatever the size of the source.

    Raises:
        InputError: the source, a row or a text of it cannot be used; file and place are named.
        MonographError: the output cannot be written, or the engine failed; no output is left that was not there.
        OSError: the source cannot be read.

    """
    begin = time.monotonic()
    name = str(shard.source.path)
    expected = _metadata(shard.source, job, encoder)
    if is_done(shard, job, expected):
        rows = WRITERS[job.file_format].count_rows(shard.output)
        return ShardResult(shard.output, rows, time.monotonic() - begin, True)
    try:
        with open_table(shard.source, job.selection.columns, job.selection.read_types) as table:
            carried = job.selection.carried_schema(table.schema, name)
            check_compatible(carried, job.carried, name, job.carried_from)
            layout = Layout(
                job.carried,
                job.column,
                encoder.dtype,
                encoder.width,
                encoder.settings["precision"],
                encoder.similarity,
                expected,
                encoder.per_token,
            )
            _check_space(shard.output, table.rows, layout)
            rows = _write(table, layout, shard, job, encoder)
    except OSError as error:
        problem = find_full_disk(error, shard.output)
        if not problem:
            raise
        raise MonographError(f"{name} is not embedded: {problem}") from error
    return ShardResult(shard.output, rows, time.monotonic() - begin, False)


def is_done(shard: Shard, job: Job, expected: Mapping[str, Any]) -> bool:
    """Return whether an output is complete, of the same settings and of the same input.

    Raises:
        InputError: it is of other settings, and ``job`` does not replace such.

    """
    if not shard.output.exists():
        return False
    found = read_metadata(shard.output, job.file_format)
    if found is not None and {**found, "input": None} == {**expected, "input": None}:
        return bool(found["input"] == expected["input"])
    if job.replace:
        return False
    if found is None:
        raise InputError(
            f"{shard.output} is there and not an output of monograph: choose another folder, or --replace it"
        )
    # The type of the vectors follows from the others.
    before, now = (
        {key: value for key, value in settings.items() if key not in ("input", "vector")}
        for settings in (found, expected)
    )
    raise InputError(
        f"{shard.output} was written with other settings ({describe_changes(before, now)}): use those, choose another "
        "folder, or --replace it"
    )


def _metadata(source: Source, job: Job, encoder: Encoder) -> dict[str, Any]:
    """Return what an output says of its making: all that its bytes depend on, except rounding."""
    selection = job.selection
    return {
        "version": METADATA_VERSION,
        "monograph": __version__,
        "encoder": dict(encoder.settings),
        "text_column": selection.column,
        "columns": [f"{field.name}: {field.type}" for field in job.carried],
        "vector_column": job.column,
        "vector": f"{encoder.dtype.name}[{encoder.width}]{' of each token' if encoder.per_token else ''}",
        "nulls": selection.nulls,
        "empties": selection.empties,
        "input": {"name": source.path.name, "sha256": _sha256(source.path)},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_space(output: Path, rows: int | None, layout: Layout) -> None:
    """Raise ``OSError`` if the vectors alone do not fit on the disk, before hours go into them."""
    needed = (rows or 0) * layout.width * layout.dtype.itemsize
    if needed > shutil.disk_usage(output.parent).free:
        raise OSError(errno.ENOSPC, f"the vectors need {needed / 1e6:,.1f} MB", str(output))


def _write(table: Table, layout: Layout, shard: Shard, job: Job, encoder: Encoder) -> int:
    """Write a shard's output and return its number of rows."""
    writer_type = WRITERS[job.file_format]
    with _atomic(shard.output, is_folder=writer_type.is_folder) as target:
        with _complete(writer_type(target, layout)) as writer:
            rows = _write_rows(table, writer, job, encoder, str(shard.source.path))
        if not writer_type.has_metadata:
            # In this order: an output beside its metadata is always that which they are of.
            shard.output.unlink(missing_ok=True)
            with atomic_file(metadata_path(shard.output)) as beside:
                beside.write(encode_metadata(layout.metadata))
        elif writer_type.is_folder and shard.output.is_dir():
            # Of another input or of other settings. A folder is not renamed over another.
            shutil.rmtree(shard.output)
    return rows


def _atomic(output: Path, *, is_folder: bool) -> AbstractContextManager[Any]:
    return atomic_folder(output) if is_folder else atomic_file(output)


@contextmanager
def _complete(writer: ShardWriter) -> Iterator[ShardWriter]:
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def _write_rows(table: Table, writer: ShardWriter, job: Job, encoder: Encoder, name: str) -> int:
    rows = 0
    with ahead(_chunks(table, job, name)) as chunks, behind(writer.write) as write:
        for chunk in chunks:
            vectors = _encode(chunk, encoder, name)
            start = 0
            for _, part in chunk:
                write(part.carried, vectors[start : start + len(part.texts)], part.positions)
                start += len(part.texts)
                rows += part.carried.num_rows
    return rows


# Blocks that are embedded together, with their places.
_Chunk = list[tuple[str, Texts]]


def _chunks(table: Table, job: Job, name: str) -> Iterator[_Chunk]:
    """Yield the blocks of a table, small ones together: of many texts, more have the same length."""
    chunk: _Chunk = []
    texts = characters = 0
    for block in table.blocks:
        part = select(block, job.selection, job.carried, name)
        chunk.append((block.place, part))
        texts += len(part.texts)
        characters += sum(map(len, part.texts))
        if texts >= BLOCK_ROWS or characters >= BLOCK_BYTES:
            yield chunk
            chunk, texts, characters = [], 0, 0
    if chunk:
        yield chunk


def _encode(chunk: _Chunk, encoder: Encoder, name: str) -> NDArray[Any]:
    try:
        return encoder.encode([text for _, part in chunk for text in part.texts])
    except UnusableTextError as error:
        place, text = [(place, text) for place, part in chunk for text in part.texts][error.position]
        raise InputError(f"{name} {place} has a text that {error.problem}: {text[:40]!r}") from error
    except MonographError as error:
        error.add_note(f"in {name} {chunk[0][0]}")
        raise
