"""Tables of texts to embed, `monograph embed` of them, and what it wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from monograph import Embedder
from support.command import monograph

ON_CPU = ("--device", "cpu")
TEXTS = ["first", "", "третья строка", 'a "quoted", text', "with\na line feed and a tab\t", "last"]


def table_of(texts: Sequence[str | None], first: int = 0) -> pa.Table:
    """Return a table with the columns id, text and lang; ids count from ``first``."""
    return pa.table(
        {
            "id": pa.array(range(first, first + len(texts)), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "lang": pa.array(["en", "de"] * len(texts))[: len(texts)],
        }
    )


def many(count: int, first: int = 0) -> list[str]:
    """Return different texts of several lengths, the first with the number ``first``."""
    return [f"text {number} " + "boat " * (number * 7 % 11) for number in range(first, first + count)]


def write(path: Path, table: pa.Table, row_group_size: int = 1000) -> Path:
    """Write a table as Parquet, with its folders, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)
    return path


def write_jsonl(path: Path, table: pa.Table) -> None:
    """Write a table as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "utf-8")


def write_stream(path: Path, table: pa.Table) -> None:
    """Write a table as a stream of Arrow's record batches of two rows."""
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[Path, pa.Table], object]] = {
    "in.parquet": write,
    "in.arrow": write_stream,
    "in.feather": lambda path, table: pyarrow.feather.write_feather(table, str(path)),
    "in.csv": lambda path, table: pyarrow.csv.write_csv(table, path),
    "in.tsv": lambda path, table: pyarrow.csv.write_csv(
        table, path, pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="all_valid")
    ),
    "in.jsonl": write_jsonl,
}


def embed(bundle: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `monograph embed` on a bundle, on the CPU."""
    return monograph("embed", bundle, *ON_CPU, *arguments, **options)


class EmbedHere(Protocol):
    """Runs `monograph embed` on the tiny bundle in this process."""

    def __call__(self, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...


def vectors_of(table: pa.Table, column: str = "embedding") -> np.ndarray:
    """Return a column of vectors without nulls, [n, d]."""
    flat: np.ndarray = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), -1)


def assert_rows(table: pa.Table, texts: Sequence[str], embedder: Embedder) -> None:
    """Check the ids of an output, and its vectors by ``encode``."""
    assert table["id"].to_pylist() == list(range(len(texts)))
    np.testing.assert_allclose(vectors_of(table), embedder.encode(list(texts)), atol=1e-6)


def names(folder: Path) -> list[str]:
    """Return the files below a folder, by their paths relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
