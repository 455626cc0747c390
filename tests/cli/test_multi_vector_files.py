"""`monograph embed` of multi-vector encoders: a list of vectors for each text, as lines and in tables."""

from __future__ import annotations

import importlib
import json
import shutil
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
from monograph.batching import WINDOW_TEXTS
from monograph.tasks.multi_vector import TOKEN_PRECISIONS, TokenPrecision
from support.manifests import edit_manifest

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main
BUNDLE = Path(__file__).parents[1] / "data" / "multi-vector"
OPTIONS = ("--device", "cpu", "--task", "document", "--quiet")
TEXTS = ["the boats lie in the harbour", "a", "", ". , !", "the café opens at nine, doesn't it?", "a"]
LONG = [*TEXTS, " ".join(f"the {name} lies in harbour {name}" for name in ("boat", "ship", "raft", "boat"))]
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
        (("-o", "out.npy"), "written as .jsonl: choose another name than out.npy, or give the texts as a table, with"),
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


@pytest.mark.parametrize("options", [("--precision", "int8"), ("--pool-factor", "2")], ids=str)
@pytest.mark.parametrize("source", ["texts.txt", "in.parquet"])
def test_errors_name_the_option_and_not_only_the_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, options: tuple[str, ...]
) -> None:
    copied = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    edit_manifest(copied, lambda value: value["multi_vector"].update(normalized=False))
    (tmp_path / "texts.txt").write_text("a\n")
    write(tmp_path / "in.parquet", ["a"])
    arguments = ["embed", str(copied), str(tmp_path / source), "-o", str(tmp_path / "out.jsonl"), *OPTIONS, *options]
    assert main(arguments) == 1
    assert "add normalize_embeddings=True (--normalize)" in capsys.readouterr().err
    assert main([*arguments, "--normalize"]) == 0


def test_the_summary_counts_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for texts in (["a"], TEXTS):
        (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts), "utf-8")
        arguments = [str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.jsonl"), *OPTIONS[:-1]]
        assert main(["embed", str(BUNDLE), *arguments]) == 0
        counted = "1 text" if len(texts) == 1 else f"{len(texts)} texts"
        assert capsys.readouterr().out == f"{tmp_path / 'out.jsonl'}: the vectors of {counted}\n"


def pooled(factor: float, precision: TokenPrecision = "float32") -> list[NDArray[Any]]:
    with MultiVectorEncoder(BUNDLE, "cpu") as model:
        encoded: list[NDArray[Any]] = model.encode_document(LONG, prompt="", precision=precision, pool_factor=factor)
        assert sum(map(len, encoded)) < sum(map(len, model.encode_document(LONG, prompt="")))
    return encoded


@pytest.mark.parametrize(("factor", "precision"), [("2", "float32"), ("3.5", "float32"), ("2", "int8")])
def test_lines_are_pooled_as_by_encode_document(tmp_path: Path, factor: str, precision: TokenPrecision) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in LONG), "utf-8")
    options = ("--pool-factor", factor, "--precision", precision)
    assert embed(tmp_path / "texts.txt", "-o", tmp_path / "out.jsonl", *options) == 0
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert_same([json.loads(line) for line in lines], pooled(float(factor), precision))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_tables_are_pooled_as_by_encode_document(tmp_path: Path, kind: str, workers: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", [*LONG])
    options = ("--format", kind, "--pool-factor", "2", "--workers", workers)
    assert embed(tmp_path / "[ab].parquet", "-o", tmp_path / "out", *options) == 0
    for name in ("a", "b"):
        output = tmp_path / "out" / f"{name}.{kind}"
        if kind == "jsonl":
            column = [json.loads(line)["embedding"] for line in output.read_text("utf-8").splitlines()]
        else:
            read = pyarrow.parquet.read_table if kind == "parquet" else pyarrow.feather.read_table
            column = read(output)["embedding"].to_pylist()
        assert_same(column, pooled(2))


def test_tables_of_another_factor_are_not_taken_for_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (write(tmp_path / "in.parquet", [*LONG]), "-o", tmp_path / "out.parquet", "--pool-factor")
    assert embed(*arguments, "2") == 0
    written = (tmp_path / "out.parquet").stat().st_mtime_ns
    assert embed(*arguments, "2") == 0
    assert (tmp_path / "out.parquet").stat().st_mtime_ns == written
    for factor in ("3", "1"):
        assert embed(*arguments, factor) == 1
        error = capsys.readouterr().err
        assert "was written with other settings" in error
        now = "3, 1 protected" if factor == "3" else "none"
        assert f"settings (--pool-factor: 2, 1 protected there, {now} now): use those" in error
    assert embed(*arguments, "3", "--replace") == 0
    assert_same(pyarrow.parquet.read_table(tmp_path / "out.parquet")["embedding"].to_pylist(), pooled(3))


@pytest.mark.parametrize("source", ["texts.txt", "in.parquet"])
def test_vectors_of_queries_are_not_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a\n")
    write(tmp_path / "in.parquet", ["a"])
    arguments = ["embed", str(BUNDLE), source, "-o", "out.jsonl", "--device", "cpu", "--task", "query"]
    assert main([*arguments, "--pool-factor", "2"]) == 1
    assert capsys.readouterr().err == "monograph: error: pool_factor is for documents: leave it out\n"
    assert main([*arguments, "--pool-factor", "1"]) == 0


@pytest.mark.parametrize("bundle", ["embedding", "sparse"])
@pytest.mark.parametrize("source", ["texts.txt", "in.parquet"])
def test_only_vectors_of_tokens_are_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, bundle: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a\n")
    write(tmp_path / "in.parquet", ["a"])
    path = str(BUNDLE.parent / bundle)
    assert main(["embed", path, source, "-o", "out.jsonl", "--device", "cpu", "--pool-factor", "2"]) == 1
    message = "tables have dense vectors" if (source, bundle) == ("in.parquet", "sparse") else "no --pool-factor: leave"
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.glob("out*")] == []


@pytest.mark.parametrize("factor", ["0.5", "nan", "inf", "two"])
def test_a_factor_is_a_number_of_at_least_one(capsys: pytest.CaptureFixture[str], factor: str) -> None:
    with pytest.raises(SystemExit):
        embed("texts.txt", "--pool-factor", factor)
    assert f"argument --pool-factor: must be a number of at least 1, not '{factor}'" in capsys.readouterr().err


def test_an_unfinished_file_of_another_factor_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The line that is not UTF-8 ends the run after a full window.
    (tmp_path / "texts.txt").write_bytes(b"boats\n" * WINDOW_TEXTS + b"caf\xe9\n")
    arguments = (tmp_path / "texts.txt", "-o", tmp_path / "out.jsonl", "--pool-factor")
    assert embed(*arguments, "2") == 1
    assert f"{WINDOW_TEXTS:,} texts are in" in capsys.readouterr().err
    partial = (tmp_path / "out.jsonl.partial").read_bytes()
    assert embed(*arguments, "3", "--resume") == 1
    assert "--pool-factor: 2, 1 protected there, 3, 1 protected now" in capsys.readouterr().err
    assert embed(*arguments, "1", "--resume") == 1
    assert "--pool-factor: 2, 1 protected there, none now" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl.partial").read_bytes() == partial
