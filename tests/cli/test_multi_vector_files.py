"""`monograph embed` of multi-vector encoders: a list of vectors for each text, as lines and in tables."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from monograph import MultiVectorEncoder
from monograph.tasks.multi_vector import TOKEN_PRECISIONS

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main
BUNDLE = Path(__file__).parents[1] / "data" / "multi-vector"
OPTIONS = ("--device", "cpu", "--task", "document", "--quiet")
TEXTS = ["the boats lie in the harbour", "a", "", ". , !", "the café opens at nine, doesn't it?", "a"]
PRECISIONS = {"float32": "float32", "float16": "float16", "int8": "int8", "binary": "int8", "ubinary": "uint8"}


@pytest.fixture(scope="module")
def expected() -> Callable[[str], list[NDArray[Any]]]:
    with MultiVectorEncoder(BUNDLE, "cpu") as model:
        encoded: dict[str, list[NDArray[Any]]] = {
            name: model.encode(TEXTS, task="document", precision=name) for name in TOKEN_PRECISIONS
        }
    return lambda precision: encoded[precision]


def embed(*arguments: str | Path) -> int:
    return int(main(["embed", str(BUNDLE), *map(str, arguments), *OPTIONS]))


def table_of(texts: list[str | None]) -> pa.Table:
    return pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())})


def write(path: Path, texts: list[str | None]) -> Path:
    pyarrow.parquet.write_table(table_of(texts), path)
    return path


def assert_same(actual: list[Any], matrices: list[NDArray[Any]]) -> None:
    assert len(actual) == len(matrices)
    for vectors, matrix in zip(actual, matrices, strict=True):
        array = np.array(vectors, matrix.dtype).reshape(-1, matrix.shape[1])
        np.testing.assert_allclose(array, matrix, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_lines_become_lists_of_vectors(tmp_path: Path, precision: str, expected: Any) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    assert embed(tmp_path / "texts.txt", "-o", tmp_path / "out.jsonl", "--precision", precision) == 0
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert_same([json.loads(line) for line in lines], expected(precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_tables_have_a_column_of_lists_of_vectors(tmp_path: Path, kind: str, precision: str, expected: Any) -> None:
    source, output = write(tmp_path / "in.parquet", [*TEXTS]), tmp_path / f"out.{kind}"
    assert embed(source, "-o", output, "--keep", "id", "--precision", precision) == 0
    if kind == "jsonl":
        rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    else:
        table = pyarrow.parquet.read_table(output) if kind == "parquet" else pyarrow.feather.read_table(output)
        value = pa.from_numpy_dtype(np.dtype(PRECISIONS[precision]))
        assert table.schema.field("embedding").type == pa.list_(pa.list_(value, 1 if "binary" in precision else 8))
        assert json.loads(table.schema.metadata[b"monograph"])["encoder"]["precision"] == precision
        rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    assert_same([row["embedding"] for row in rows], expected(precision))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_rows_without_a_text_have_null(tmp_path: Path, kind: str, expected: Any) -> None:
    source = write(tmp_path / "in.parquet", [None, TEXTS[0], None, TEXTS[1], None])
    output = tmp_path / f"out.{kind}"
    assert embed(source, "-o", output, "--nulls", "null") == 0
    if kind == "jsonl":
        column = [json.loads(line)["embedding"] for line in output.read_text("utf-8").splitlines()]
    else:
        table = pyarrow.parquet.read_table(output) if kind == "parquet" else pyarrow.feather.read_table(output)
        column = table["embedding"].to_pylist()
    assert [vectors is None for vectors in column] == [True, False, True, False, True]
    assert_same([column[1], column[3]], expected("float32")[:2])


def test_finished_tables_are_not_written_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", [*TEXTS])
    files = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert embed(*files, "-o", tmp_path / "out") == 0
    first = (tmp_path / "out" / "a.parquet").stat()
    (tmp_path / "out" / "b.parquet").unlink()
    assert embed(*files, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == first.st_mtime_ns
    assert pyarrow.parquet.read_table(tmp_path / "out" / "b.parquet").num_rows == len(TEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "out.npy"), "NumPy's format has no rows of different length: write Parquet, Arrow or JSON lines"),
        (("-o", "out", "--deduplicate"), "a multi-vector encoder, which has no --deduplicate"),
        (("-o", "out", "--truncate-dim", "4"), "a multi-vector encoder, which has no --truncate-dim"),
        (("-o", "out", "--precision", "uint8"), "precision 'uint8' is not one of float32, float16, int8, binary"),
    ],
)
def test_what_tables_refuse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.parquet", [*TEXTS])
    assert embed("in.parquet", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "out.npy"), "written as .jsonl: choose another name than out.npy, or write a table with --format parq"),
        (("-o", "out.jsonl", "--truncate-dim", "4"), "a multi-vector encoder, which has no --truncate-dim"),
        (("-o", "out.jsonl", "--ranges", "r.npy"), "a multi-vector encoder, which has no --ranges"),
        (("-o", "out.jsonl", "--precision", "uint8"), "precision 'uint8' is not one of"),
    ],
)
def test_what_lines_refuse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a\n")
    assert embed("texts.txt", *options) == 1
    assert message in capsys.readouterr().err
