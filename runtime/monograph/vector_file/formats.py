"""File formats for vectors: NumPy's own and JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.lib.format as npy
from numpy.typing import NDArray

from monograph.sparse.rows import SparseRows

# Vectors that are written together: an array [k, d], or sparse rows.
Block = TypeVar("Block", bound=Sized, contravariant=True)


class VectorFormat(Protocol[Block]):
    """A header, which may hold the number of vectors, followed by the vectors."""

    @property
    def name(self) -> str:
        """The name in a run's settings, which includes type and dimension."""
        ...

    def header(self, rows: int) -> bytes:
        """Return the header for ``rows`` vectors, whose length does not depend on their number."""
        ...

    def body(self, vectors: Block, /) -> bytes:
        """Return the bytes of a block."""
        ...


@dataclass(frozen=True)
class NpyFormat:
    """The .npy format for vectors [n, ``columns``] of ``dtype``."""

    dtype: np.dtype[Any]
    columns: int

    @property
    def name(self) -> str:
        """The format with its type and dimension."""
        return f"npy {self.dtype.str} {self.columns}"

    def header(self, rows: int) -> bytes:
        """Return the header, which NumPy pads so that the number of rows may grow."""
        file = io.BytesIO()
        shape = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, self.columns)}
        npy.write_array_header_1_0(file, shape)
        return file.getvalue()

    def body(self, vectors: NDArray[Any]) -> bytes:
        """Return the values of the vectors [k, ``columns``], row by row."""
        return np.asarray(vectors, dtype=self.dtype).tobytes()


@dataclass(frozen=True)
class JsonLinesFormat(Generic[Block]):
    """A line of JSON for each vector; ``lines`` serializes a block of them."""

    name: str
    lines: Callable[[Block], Iterator[str]]

    def header(self, rows: int) -> bytes:  # noqa: ARG002
        """Return the empty header."""
        return b""

    def body(self, vectors: Block) -> bytes:
        """Return the lines of a block."""
        return "".join(self.lines(vectors)).encode("ascii")


def json_lines(vectors: NDArray[Any]) -> Iterator[str]:
    """Yield each of the vectors [k, d] as a line of JSON with its newline."""
    for vector in vectors:
        yield json.dumps(json_values(vector)) + "\n"


def json_values(vector: NDArray[Any]) -> list[Any]:
    """Return the values of a vector [d] as JSON writes them."""
    return _shortest(vector) if vector.dtype.kind == "f" else list(vector.tolist())


def token_json_lines(matrices: Iterable[NDArray[Any]]) -> Iterator[str]:
    """Yield the vectors of each text's tokens, [tokens, d], as a line of JSON with its newline: a list of lists."""
    for matrix in matrices:
        yield json.dumps([json_values(vector) for vector in matrix]) + "\n"


def sparse_json_lines(rows: SparseRows) -> Iterator[str]:
    """Yield the ``indices`` and ``values`` of each row as a line of JSON with its newline."""
    for columns, values in rows.vectors():
        yield json.dumps({"indices": columns.tolist(), "values": _shortest(values)}) + "\n"


def _shortest(values: NDArray[np.floating[Any]]) -> list[float]:
    """Return float values [k] as the shortest decimals that round-trip."""
    return [float(str(value)) for value in values]


# By the suffix of a file's name; each is made for the ``dtype`` and ``width`` of what follows the graph.
DENSE_FORMATS: Mapping[str, Callable[[Any], VectorFormat[NDArray[Any]]]] = {
    ".npy": lambda plan: NpyFormat(plan.dtype, plan.width),
    ".jsonl": lambda plan: JsonLinesFormat("jsonl", json_lines),  # noqa: ARG005
}
SPARSE_FORMATS: Mapping[str, Callable[[Any], VectorFormat[SparseRows]]] = {
    ".jsonl": lambda plan: JsonLinesFormat("sparse jsonl", sparse_json_lines),  # noqa: ARG005
}
TOKEN_FORMATS: Mapping[str, Callable[[Any], VectorFormat[NDArray[Any]]]] = {
    ".jsonl": lambda plan: JsonLinesFormat("multi-vector jsonl", token_json_lines),  # noqa: ARG005
}
