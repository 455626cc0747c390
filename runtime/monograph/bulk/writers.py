"""Write the vectors of one shard, with the columns that are carried: Parquet, Arrow, NumPy's format or JSON lines."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from monograph.bulk.packages import pyarrow
from monograph.errors import InputError, first_line
from monograph.vector_file.formats import NpyFormat, json_values

# In the metadata of a file's schema.
METADATA_KEY = b"monograph"
# A row group of this size is read at once by what searches it, and held by what writes it.
ROW_GROUP_BYTES = 16 << 20
_COUNTED_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The columns of an output: those that are carried (a ``pyarrow.Schema``), then ``column``.

    Vectors have ``width`` values of ``dtype``, at ``precision``, and are compared by ``similarity``; ``metadata`` is
    written with them. If they are ``per_token``, a row has a list of vectors, of any length.
    """

    carried: Any
    column: str
    dtype: np.dtype[Any]
    width: int
    precision: str
    similarity: str
    metadata: Mapping[str, Any]
    per_token: bool = False

    @property
    def schema(self) -> Any:
        """The schema of the output."""
        kind = pyarrow.list_(pyarrow.from_numpy_dtype(self.dtype), self.width)
        schema = self.carried.append(pyarrow.field(self.column, pyarrow.list_(kind) if self.per_token else kind))
        return schema.with_metadata({METADATA_KEY: encode_metadata(self.metadata)})

    @property
    def group_vectors(self) -> int:
        """The vectors of a row group."""
        return max(1, ROW_GROUP_BYTES // (self.width * self.dtype.itemsize))

    @property
    def values_path(self) -> str:
        """The path of the column of the vectors' values in Parquet."""
        return f"{self.column}{'.list.element' * (2 if self.per_token else 1)}"

    def count(self, carried: Any, vectors: NDArray[Any]) -> int:
        """Return the number of vectors of rows: their own, or with one for each row those of rows without, too."""
        return sum(map(len, vectors)) if self.per_token else int(carried.num_rows)

    def rows(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> Any:
        """Return a batch of n rows; ``vectors`` are of those at ``positions`` (intp [k]).

        They are [k, ``width``], or if ``per_token`` objects [k], each [tokens, ``width``].
        """
        if self.per_token:
            array = self._lists(carried, vectors, positions)
        else:
            array = vector_array(vectors, positions, carried.num_rows)
        return pyarrow.RecordBatch.from_arrays([*carried.columns, array], schema=self.schema)

    def _lists(self, carried: Any, matrices: NDArray[Any], positions: NDArray[np.intp]) -> Any:
        counts = np.zeros(carried.num_rows, np.int64)
        counts[positions] = [len(matrix) for matrix in matrices]
        missing = np.ones(carried.num_rows, bool)
        missing[positions] = False
        values = np.concatenate([np.empty((0, self.width), self.dtype), *matrices])
        return pyarrow.ListArray.from_arrays(
            pyarrow.array(np.concatenate(([0], np.cumsum(counts))), pyarrow.int32()),
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), self.width),
            **({"mask": pyarrow.array(missing)} if missing.any() else {}),
        )


def vector_array(vectors: NDArray[Any], positions: NDArray[np.intp], rows: int) -> Any:
    """Return vectors [k, d] as a ``pyarrow.FixedSizeListArray`` of ``rows``, null but at ``positions`` (intp [k])."""
    mask = None
    if rows != len(vectors):
        values, vectors = vectors, np.zeros((rows, vectors.shape[1]), vectors.dtype)
        vectors[positions] = values
        is_null = np.ones(rows, bool)
        is_null[positions] = False
        mask = pyarrow.array(is_null)
    flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=mask)


class ShardWriter(ABC):
    """A format of outputs. An instance takes the rows of a shard in order, and ``close`` completes the output.

    It is made with a file that is open for writing and stays so, or, where ``is_folder``, with the path of an empty
    folder. Where not ``has_metadata``, the format has no place for metadata, which is written beside it.
    """

    is_folder: ClassVar[bool] = False
    has_metadata: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, target: Any, layout: Layout) -> None:
        """Begin an output; raise ``InputError`` if the format does not have such vectors."""

    @classmethod  # noqa: B027  # not all have something to refuse
    def check(cls, carried: Any, *, has_nulls: bool) -> None:
        """Raise an error if the format cannot hold the columns ``carried`` (a schema) or null in place of a vector.

        Raises:
            InputError: it cannot.
            MissingPackageError: a package is not installed that the format needs.

        """

    @classmethod
    def schema(cls, output: Path) -> Any:
        """Return the schema of a complete output, for formats with metadata.

        Raises:
            FileNotFoundError: there is none.
            ValueError, pyarrow.ArrowException: it is not of the format.

        """
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of rows of a complete output, or of vectors, if these are all that it has."""

    @abstractmethod
    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Append rows, as ``Layout.rows``."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""

    def abandon(self) -> None:  # noqa: B027  # not all have something to do
        """Have no more to do with the file, which is incomplete and will be removed."""


class GroupWriter(ShardWriter):
    """A format that is written in groups of about 16 MB."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._batches: list[Any] = []
        self._vectors = 0

    @abstractmethod
    def write_group(self, table: Any) -> None:
        """Write rows (a ``pyarrow.Table``) as a group."""

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Append rows; write a group once it is full."""
        self._batches.append(self._layout.rows(carried, vectors, positions))
        self._vectors += self._layout.count(carried, vectors)
        if self._vectors >= self._layout.group_vectors:
            self._flush()

    def close(self) -> None:
        """Write the last group."""
        if self._batches:
            self._flush()

    def _flush(self) -> None:
        table = pyarrow.Table.from_batches(self._batches)
        self._batches, self._vectors = [], 0
        self.write_group(table)


class ParquetWriter(GroupWriter):
    """Parquet, with row groups of about 16 MB."""

    @classmethod
    def schema(cls, output: Path) -> Any:
        """Return the schema of a complete file."""
        return pyarrow.parquet.read_schema(output)

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of rows of a complete file."""
        return int(pyarrow.parquet.read_metadata(output).num_rows)

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        super().__init__(layout)
        names = layout.carried.names
        self._writer = pyarrow.parquet.ParquetWriter(
            file,
            layout.schema,
            # Vectors have neither repetitions nor an order: a dictionary and statistics of them cost time for nothing,
            # and compression saves 7 % of float32.
            use_dictionary=names,
            write_statistics=names,
            compression={**dict.fromkeys(names, "zstd"), layout.values_path: "none"},
        )

    def write_group(self, table: Any) -> None:
        """Write rows as a row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Write the last row group and the footer."""
        super().close()
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer, which would do so when it is collected, and the file is not open any more."""
        with suppress(OSError, pyarrow.ArrowException):
            self._writer.close()


class ArrowWriter(ShardWriter):
    """Arrow's IPC file format, of which a Feather file is another name."""

    @classmethod
    def schema(cls, output: Path) -> Any:
        """Return the schema of a complete file."""
        with pyarrow.OSFile(str(output), "rb") as file:
            return pyarrow.ipc.open_file(file).schema

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of rows of a complete file."""
        with pyarrow.memory_map(str(output)) as file:
            return int(pyarrow.ipc.open_file(file).count_rows())

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        self._layout = layout
        self._writer = pyarrow.ipc.new_file(file, layout.schema)

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Append rows as a record batch."""
        self._writer.write_batch(self._layout.rows(carried, vectors, positions))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer as long as the file is open."""
        with suppress(OSError, pyarrow.ArrowException):
            self._writer.close()


class NpyWriter(ShardWriter):
    """NumPy's format: the vectors alone, one for each row."""

    has_metadata = False

    @classmethod
    def check(cls, carried: Any, *, has_nulls: bool) -> None:
        """Raise ``InputError`` if there are columns to keep, or rows without a vector."""
        if carried.names:
            raise InputError("NumPy's format has no place for --keep: write Parquet, Arrow or JSON lines")
        if has_nulls:
            raise InputError("NumPy's format has no null: let texts be embedded or skipped, or write Parquet")

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of vectors of a complete file."""
        return int(np.load(output, mmap_mode="r").shape[0])

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        if layout.per_token:
            raise InputError("NumPy's format has no rows of different length: write Parquet, Arrow or JSON lines")
        self._file, self._rows = file, 0
        self._format = NpyFormat(layout.dtype, layout.width)
        file.write(self._format.header(0))

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:  # noqa: ARG002
        """Append the vectors."""
        self._rows += len(vectors)
        self._file.write(self._format.body(vectors))

    def close(self) -> None:
        """Write the header, which has the number of vectors."""
        self._file.seek(0)
        self._file.write(self._format.header(self._rows))


class JsonLinesWriter(ShardWriter):
    """An object a line, with the columns that are carried and the vector."""

    has_metadata = False

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of lines of a complete file."""
        with output.open("rb") as lines:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(_COUNTED_BYTES), b""))

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        self._file, self._layout = file, layout

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Append rows."""
        values: list[Any] = [None] * carried.num_rows
        for position, vector in zip(positions, vectors, strict=True):
            values[position] = list(map(json_values, vector)) if self._layout.per_token else json_values(vector)
        for row, vector in zip(carried.to_pylist(), values, strict=True):
            try:
                line = json.dumps({**row, self._layout.column: vector}, ensure_ascii=False)
            except TypeError as error:
                raise InputError(
                    f"a column to keep has values that JSON does not have ({first_line(error)}): write Parquet, or set "
                    "its type, as in --keep when:string"
                ) from error
            self._file.write(line.encode() + b"\n")

    def close(self) -> None:
        """Do nothing more."""


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as it is written."""
    return json.dumps(metadata, sort_keys=True).encode()
