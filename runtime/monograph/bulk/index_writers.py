"""Write the vectors of one shard as what searches them: a Lance dataset, or an index of FAISS or usearch.

An index has a number for each vector: that of the one column that is carried, or else of the row. It is in memory until
it is complete.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.bulk.packages import missing_package, pyarrow
from monograph.bulk.writers import GroupWriter, Layout, ShardWriter
from monograph.errors import InputError, first_line
from monograph.similarity import normalize

# As usearch and FAISS recommend, for the graph of nearest neighbours.
_LINKS = 16
# Precisions of multi-vectors.
_SEARCHED_TOKENS = ("float32", "float16")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


class LanceWriter(GroupWriter):
    """A Lance dataset, which LanceDB opens as a table, with fragments of about 16 MB written one by one."""

    is_folder = True

    def __init__(self, target: Path, layout: Layout) -> None:
        # Lance 14 writes lists of other vectors, too, and refuses every search of them.
        if layout.per_token and layout.precision not in _SEARCHED_TOKENS:
            raise InputError(
                f"Lance does not search vectors of tokens of the precision {layout.precision}: choose "
                f"{' or '.join(_SEARCHED_TOKENS)} with --precision, or write Parquet"
            )
        super().__init__(layout)
        self._folder = target
        self._fragments: list[Any] = []

    @classmethod
    def check(cls, carried: Any, *, has_nulls: bool) -> None:  # noqa: ARG003
        """Raise ``MissingPackageError`` if Lance is not installed."""
        _lance()

    @classmethod
    def schema(cls, output: Path) -> Any:
        """Return the schema of a complete dataset."""
        return _lance().dataset(str(output)).schema

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of rows of a complete dataset."""
        return int(_lance().dataset(str(output)).count_rows())

    def write_group(self, table: Any) -> None:
        """Write rows as a fragment."""
        try:
            self._fragments += _lance().fragment.write_fragments(
                table, str(self._folder), schema=self._layout.schema, mode="create"
            )
        except OSError as error:
            raise _with_number(error) from error

    def close(self) -> None:
        """Write the last fragment, and the one version of the dataset."""
        super().close()
        lance = _lance()
        try:
            operation = lance.LanceOperation.Overwrite(self._layout.schema, self._fragments)
            lance.LanceDataset.commit(str(self._folder), operation)
        except OSError as error:
            raise _with_number(error) from error


class _IndexWriter(ShardWriter):
    """Vectors by their numbers."""

    has_metadata = False
    title: ClassVar[str]
    module: ClassVar[str]
    extra: ClassVar[str]
    # Names of the index by the models' similarity functions.
    metrics: ClassVar[dict[str, str]]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, target: IO[bytes], layout: Layout) -> None:
        if layout.per_token:
            raise InputError(f"{self.title} has one vector for each row: write Parquet")
        if layout.precision not in self.precisions:
            raise InputError(
                f"{self.title} has no vectors of the precision {layout.precision}: choose "
                f"{', '.join(self.precisions)} with --precision, or write Parquet"
            )
        if layout.similarity not in self.metrics:
            raise InputError(f"{self.title} does not have the model's similarity {layout.similarity}: write Parquet")
        self._file, self._layout = target, layout
        self._rows = 0

    @classmethod
    def check(cls, carried: Any, *, has_nulls: bool) -> None:  # noqa: ARG003  # what has no vector is not in an index
        """Raise an error if the library is not installed, or ``carried`` is more than one column of numbers."""
        cls.library()
        if len(carried) > 1 or any(not pyarrow.types.is_integer(column.type) for column in carried):
            raise InputError(
                f"{cls.title} has a number for each vector: --keep one column of integers, or none for the rows' "
                "numbers from 0"
            )

    @classmethod
    def library(cls) -> Any:
        """Return the module of the index."""
        return _import(cls.module, cls.title, cls.extra)

    def numbers(self, carried: Any, positions: NDArray[np.intp], dtype: type[np.integer[Any]]) -> NDArray[Any]:
        """Return the numbers of the rows at ``positions``, ``dtype`` [k].

        Raises:
            InputError: one is missing, or not in the range of the type.

        """
        first = self._rows
        self._rows += carried.num_rows
        if not carried.num_columns:
            return (first + positions).astype(dtype)
        column, name = carried.column(0), carried.schema.names[0]
        if column.null_count:
            raise InputError(f"the column {name!r} has a null, and {self.title} needs a number for each vector")
        values = column.to_numpy(zero_copy_only=False)
        limits = np.iinfo(dtype)
        if len(values) and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
            raise InputError(f"the column {name!r} has numbers outside of {limits.min} to {limits.max}")
        return np.asarray(values[positions], dtype)


class FaissWriter(_IndexWriter):
    """A flat index of FAISS, which is exact, can be merged and trains others; vectors are normalized for cosines."""

    title, module, extra = "an index of FAISS", "faiss", "faiss"
    metrics: ClassVar[dict[str, str]] = {
        "cosine": "METRIC_INNER_PRODUCT", "dot": "METRIC_INNER_PRODUCT", "euclidean": "METRIC_L2",
        "manhattan": "METRIC_L1",
    }  # fmt: skip
    precisions = ("float32", "ubinary")

    def __init__(self, target: IO[bytes], layout: Layout) -> None:
        super().__init__(target, layout)
        faiss = self.library()
        self._is_binary = layout.precision == "ubinary"
        if self._is_binary:
            self._index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(layout.width * 8))
        else:
            metric = getattr(faiss, self.metrics[layout.similarity])
            self._index = faiss.IndexIDMap2(faiss.IndexFlat(layout.width, metric))

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of vectors of a complete index."""
        faiss = cls.library()
        with output.open("rb") as file:
            # "IB.." is a binary index.
            is_binary = file.read(2) == b"IB"
        read = faiss.read_index_binary if is_binary else faiss.read_index
        return int(read(str(output), faiss.IO_FLAG_MMAP).ntotal)

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Add vectors."""
        if self._layout.similarity == "cosine" and not self._is_binary:
            vectors = normalize(vectors)
        self._index.add_with_ids(np.ascontiguousarray(vectors), self.numbers(carried, positions, np.int64))

    def close(self) -> None:
        """Write the index."""
        faiss = self.library()
        serialize = faiss.serialize_index_binary if self._is_binary else faiss.serialize_index
        self._file.write(memoryview(serialize(self._index)))


class UsearchWriter(_IndexWriter):
    """An index of usearch, a graph of nearest neighbours (HNSW)."""

    title, module, extra = "an index of usearch", "usearch.index", "usearch"
    metrics: ClassVar[dict[str, str]] = {"cosine": "cos", "dot": "ip", "euclidean": "l2sq"}
    precisions = ("float32", "float16", "ubinary")

    def __init__(self, target: IO[bytes], layout: Layout) -> None:
        super().__init__(target, layout)
        is_binary = layout.precision == "ubinary"
        self._index = self.library().Index(
            ndim=layout.width * (8 if is_binary else 1),
            metric="hamming" if is_binary else self.metrics[layout.similarity],
            dtype={"float32": "f32", "float16": "f16", "ubinary": "b1"}[layout.precision],
            connectivity=_LINKS,
        )

    @classmethod
    def count_rows(cls, output: Path) -> int:
        """Return the number of vectors of a complete index."""
        return len(cls.library().Index.restore(str(output), view=True))

    def write(self, carried: Any, vectors: NDArray[Any], positions: NDArray[np.intp]) -> None:
        """Add vectors, on as many threads as the process has cores.

        Raises:
            InputError: a number is there more than once.

        """
        numbers = self.numbers(carried, positions, np.uint64)
        if not len(numbers):
            return
        values, counts = np.unique(numbers, return_counts=True)
        # usearch itself misses a number that two of its threads add at once.
        repeated = values[(counts > 1) | self._index.contains(values)]
        if len(repeated):
            raise InputError(
                f"{self.title} takes each number once, and {repeated[0]} is there again: --keep a column in which "
                "each is there once, or none for the rows' numbers from 0"
            )
        self._index.add(numbers, np.ascontiguousarray(vectors))

    def close(self) -> None:
        """Write the index."""
        self._file.write(memoryview(self._index.save()))


def _lance() -> Any:
    return _import("lance", "Lance's format", "lance")


def _import(module: str, purpose: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(purpose, module.partition(".")[0], extra, error) from error


def _with_number(error: OSError) -> OSError:
    """Return an error with its number, which Lance has only in the message."""
    found = _SYSTEM_ERROR.search(str(error))
    number = int(found[1]) if found else error.errno or errno.EIO
    return OSError(number, os.strerror(number) if found else first_line(error))
