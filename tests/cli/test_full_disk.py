"""`monograph embed` of tables onto a disk that becomes full: one line, nothing half, and the rest is done."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from support.command import assert_error, monograph
from support.small_disk import SmallDisk, incompressible_texts, mounted


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", 2) as disk:
        yield disk


def embed(bundle: Path, *arguments: object) -> Any:
    return monograph("embed", bundle, *arguments, "--device", "cpu")


def write_inputs(folder: Path) -> None:
    """Write a table whose texts take 6 MB, and one of a few bytes."""
    folder.mkdir()
    for name, texts in {"big": incompressible_texts(300, 20_000), "small": ["a", "b"]}.items():
        pyarrow.parquet.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / f"{name}.parquet")


@pytest.mark.parametrize(
    "file_format", ["parquet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("arrow", "jsonl"))]
)
def test_a_disk_that_becomes_full_as_columns_are_written(
    file_format: str, disk: SmallDisk, tiny_bundle: Path, tmp_path: Path
) -> None:
    write_inputs(tmp_path / "in")
    output = disk.path / "out"
    arguments = (tmp_path / "in", "--keep", "id,text", "-o", output, "--format", file_format)
    done = embed(tiny_bundle, *arguments)
    assert_error(
        done, 1, "big.parquet is not embedded", "No space left on device", f"free space on the disk {disk.path}"
    )
    assert done.stderr.decode().endswith("; the other table is done\n")
    beside = [f"small.{file_format}.json"] if file_format == "jsonl" else []
    assert sorted(path.name for path in output.iterdir()) == [f"small.{file_format}", *beside]
    disk.resize(64)
    again = embed(tiny_bundle, *arguments)
    assert again.stdout.decode() == f"{output}: 302 rows in 2 tables, 1 of them done before\n", again.stderr


def test_a_disk_that_becomes_full_as_vectors_are_written(disk: SmallDisk, tiny_bundle: Path, tmp_path: Path) -> None:
    # Of lines it is not known how many there are.
    lines = [json.dumps({"text": f"text {number}"}) + "\n" for number in range(30_000)]
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    output = disk.path / "out.npy"
    done = embed(tiny_bundle, tmp_path / "in.jsonl.gz", "-o", output)
    assert_error(done, 1, "in.jsonl.gz is not embedded", "No space left on device")
    assert list(disk.path.iterdir()) == []


def test_vectors_that_cannot_fit_are_not_begun(disk: SmallDisk, tiny_bundle: Path, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"text": ["a"] * 100_000}), tmp_path / "in.parquet")
    done = embed(tiny_bundle, tmp_path / "in.parquet", "-o", disk.path / "out.parquet")
    assert_error(done, 1, "in.parquet is not embedded", "cannot be written", "free space on the disk")
    assert list(disk.path.iterdir()) == []
