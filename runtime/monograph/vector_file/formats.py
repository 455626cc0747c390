"""The bytes of vectors in a file: numpy's own format, or JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.lib.format as npy
from numpy.typing import NDArray

from monograph.sparse.rows import SparseRows

# Vectors that are written at a time: an array [k, d], or sparse rows.
Block = TypeVar("Block", bound=Sized, contravariant=True)


class VectorFormat(Protocol[Block]):
    """A head that tells how many vectors there are, and the vectors one after the other behind it."""

    @property
    def name(self) -> str:
        """What a run's settings call the format; formats of other types or widths have other names."""
        ...

    def head(self, rows: int) -> bytes:
        """Return what stands before ``rows`` vectors; it is of one length, whatever their number."""
        ...

    def body(self, vectors: Block, /) -> bytes:
        """Return the bytes of a block."""
        ...


@dataclass(frozen=True)
class NpyFormat:
    """What numpy.save writes for vectors [n, ``columns``] of ``dtype``."""

    dtype: np.dtype[Any]
    columns: int

    @property
    def name(self) -> str:
        """The format with its type and width."""
        return f"npy {self.dtype.str} {self.columns}"

    def head(self, rows: int) -> bytes:
        """Return the header; numpy pads it so that its first axis may grow to any number of rows."""
        file = io.BytesIO()
        shape = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, self.columns)}
        npy.write_array_header_1_0(file, shape)
        return file.getvalue()

    def body(self, vectors: NDArray[Any]) -> bytes:
        """Return the values of the vectors [k, ``columns``], row by row."""
        return np.asarray(vectors, dtype=self.dtype).tobytes()


@dataclass(frozen=True)
class JsonLinesFormat(Generic[Block]):
    """A line of JSON for each vector, which ``lines`` makes of a block of them; a run's settings call it ``name``."""

    name: str
    lines: Callable[[Block], Iterator[str]]

    def head(self, rows: int) -> bytes:  # noqa: ARG002
        """Return nothing: the first line is the first vector."""
        return b""

    def body(self, vectors: Block) -> bytes:
        """Return the lines of a block."""
        return "".join(self.lines(vectors)).encode("ascii")


def json_lines(vectors: NDArray[Any]) -> Iterator[str]:
    """Yield each of the vectors [k, d] as a line of JSON, with its line feed."""
    for vector in vectors:
        yield json.dumps(_shortest(vector) if vector.dtype.kind == "f" else vector.tolist()) + "\n"


def sparse_json_lines(rows: SparseRows) -> Iterator[str]:
    """Yield the ``indices`` and ``values`` of each row as a line of JSON, with its line feed."""
    for columns, values in rows.vectors():
        yield json.dumps({"indices": columns.tolist(), "values": _shortest(values)}) + "\n"


def _shortest(values: NDArray[np.float32]) -> list[float]:
    """Return float32 values [k] in the shortest decimals that give them back exactly."""
    return [float(str(value)) for value in values]


# By the suffix of a file's name; each is made for the ``dtype`` and ``width`` of what follows the graph.
DENSE_FORMATS: Mapping[str, Callable[[Any], VectorFormat[NDArray[Any]]]] = {
    ".npy": lambda plan: NpyFormat(plan.dtype, plan.width),
    ".jsonl": lambda plan: JsonLinesFormat("jsonl", json_lines),  # noqa: ARG005
}
SPARSE_FORMATS: Mapping[str, Callable[[Any], VectorFormat[SparseRows]]] = {
    ".jsonl": lambda plan: JsonLinesFormat("sparse jsonl", sparse_json_lines),  # noqa: ARG005
}
