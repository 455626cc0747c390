"""`monograph embed` of tables: every kind in, every format out, resumed by shards, and what failed in one line."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from monograph import Embedder
from support.command import assert_error, monograph
from support.pages import DOCS, blocks

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main
ON_CPU = ("--device", "cpu")
TEXTS = ["first", "", "третья строка", 'a "quoted", text', "with\na line feed and a tab\t", "last"]


def table_of(texts: Sequence[str | None], first: int = 0) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(first, first + len(texts)), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "lang": pa.array(["en", "de"] * len(texts))[: len(texts)],
        }
    )


def many(count: int, first: int = 0) -> list[str]:
    return [f"text {number} " + "boat " * (number * 7 % 11) for number in range(first, first + count)]


def write(path: Path, table: pa.Table, row_group_size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)
    return path


def write_jsonl(path: Path, table: pa.Table) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "utf-8")


def write_stream(path: Path, table: pa.Table) -> None:
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
    return monograph("embed", bundle, *ON_CPU, *arguments, **options)


class EmbedHere(Protocol):
    def __call__(self, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...


@pytest.fixture
def embed_here(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> EmbedHere:
    """`embed` in this process and in ``tmp_path``, for the many runs whose start takes longer than what they show."""

    def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        words = ["embed", *map(str, (tiny_bundle, *ON_CPU, *arguments))]
        capfdbinary.readouterr()
        code = main(words)
        output, error = capfdbinary.readouterr()
        return subprocess.CompletedProcess(words, code, output, error)

    return run


def vectors_of(table: pa.Table, column: str = "embedding") -> np.ndarray:
    flat: np.ndarray = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(table), -1)


def assert_rows(table: pa.Table, texts: Sequence[str], embedder: Embedder) -> None:
    assert table["id"].to_pylist() == list(range(len(texts)))
    np.testing.assert_allclose(vectors_of(table), embedder.encode(list(texts)), atol=1e-6)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_every_kind_becomes_vectors_beside_its_columns(
    compression: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    for kind, write_kind in WRITERS.items():
        file = tmp_path / "in" / kind[3:] / f"{kind}{compression}"
        file.parent.mkdir(parents=True)
        write_kind(file.with_name(kind), table_of(TEXTS))
        content = file.with_name(kind).read_bytes()
        file.with_name(kind).unlink()
        if compression == ".zst":
            with pa.output_stream(str(file), compression="zstd") as stream:
                stream.write(content)
        else:
            file.write_bytes(gzip.compress(content) if compression else content)
    done = embed(tiny_bundle, tmp_path / "in", "--keep", "id,lang", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{tmp_path}/out: 36 rows in 6 tables\n"
    assert names(tmp_path / "out") == sorted(f"{kind[3:]}/in.parquet" for kind in WRITERS)
    for kind in WRITERS:
        table = pyarrow.parquet.read_table(tmp_path / "out" / kind[3:] / "in.parquet")
        assert table.schema.names == ["id", "lang", "embedding"]
        assert table.schema.field("embedding").type == pa.list_(pa.float32(), 24)
        assert_rows(table, TEXTS, tiny_embedder)


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "npy", "jsonl"])
def test_every_format_has_the_same_vectors(
    file_format: str, tiny_bundle: Path, tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path
) -> None:
    texts = many(10_000)
    write(tmp_path / "in.parquet", table_of(texts), 3_000)
    output = tmp_path / f"out.{file_format}"
    keep = [] if file_format == "npy" else ["--keep", "id"]
    done = embed(tiny_bundle, tmp_path / "in.parquet", *keep, "-o", output)
    assert done.returncode == 0, done.stderr
    if file_format == "npy":
        vectors = np.load(output)
    elif file_format == "jsonl":
        rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        assert [row["id"] for row in rows] == list(range(10_000))
        vectors = np.array([row["embedding"] for row in rows], np.float32)
    else:
        table = pyarrow.feather.read_table(output) if file_format == "arrow" else pyarrow.parquet.read_table(output)
        assert table["id"].to_pylist() == list(range(10_000))
        vectors = vectors_of(table)
    np.testing.assert_allclose(vectors, tiny_embedder.encode(texts), atol=1e-6)
    before = output.stat().st_mtime_ns
    again = embed_here(tmp_path / "in.parquet", *keep, "-o", output)
    assert again.stdout.decode() == f"{output}: 10,000 rows in 1 table, 1 of them done before\n"
    assert output.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float16", pa.float16()), ("binary", pa.int8()), ("ubinary", pa.uint8()), ("int8", pa.int8())],
)
def test_precisions(precision: str, kind: Any, tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", table_of(TEXTS))
    vectors = tiny_embedder.encode(TEXTS)
    ranges = np.stack([vectors.min(0), vectors.max(0)])
    np.save(tmp_path / "ranges.npy", ranges)
    options = ["--ranges", tmp_path / "ranges.npy"] if precision == "int8" else []
    done = embed_here(tmp_path / "in.parquet", "-o", tmp_path / "out", "--precision", precision, *options)
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(tmp_path / "out" / "in.parquet")
    assert table.schema.field("embedding").type.value_type == kind
    if precision == "float16":
        expected: Any = vectors.astype(np.float16)
    elif precision == "int8":
        expected = tiny_embedder.encode(TEXTS, precision="int8", ranges=ranges)
    else:
        expected = tiny_embedder.encode(TEXTS, precision=precision)  # type: ignore[call-overload]
    np.testing.assert_allclose(vectors_of(table).astype(float), expected.astype(float), atol=1e-3)


def test_metadata_says_how_the_vectors_were_made(
    tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path
) -> None:
    write(tmp_path / "in.parquet", table_of(TEXTS))
    done = embed_here(tmp_path / "in.parquet", "-o", tmp_path / "out", "--prompt-name", "query")
    assert done.returncode == 0, done.stderr
    metadata = pyarrow.parquet.read_schema(tmp_path / "out" / "in.parquet").metadata
    value = json.loads(metadata[b"monograph"])
    assert value["encoder"]["fingerprint"] == tiny_embedder.fingerprint
    assert value["encoder"]["prompt"] == "search: "
    assert value["encoder"]["precision"] == "float32"
    assert len(value["input"]["sha256"]) == 64


def test_folders_patterns_and_saved_datasets(embed_here: EmbedHere, tmp_path: Path) -> None:
    write(tmp_path / "data" / "a" / "1.parquet", table_of(TEXTS))
    write(tmp_path / "data" / "b" / "1.parquet", table_of(TEXTS))
    (tmp_path / "data" / "_SUCCESS").touch()
    (tmp_path / "data" / ".1.parquet.crc").touch()
    # As `datasets` saves them.
    split = tmp_path / "saved" / "train"
    split.mkdir(parents=True)
    write_stream(split / "data-00000-of-00001.arrow", table_of(TEXTS))
    write_stream(split / "cache-1.arrow", table_of(["not of the dataset"]))
    (split / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    (split / "dataset_info.json").write_text("{}")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    cases: dict[str, list[str]] = {
        "data": ["a/1.parquet", "b/1.parquet"],
        "data/*/*.parquet": ["a/1.parquet", "b/1.parquet"],
        "data/**/*.parquet": ["a/1.parquet", "b/1.parquet"],
        "data/a/*": ["1.parquet"],
        "data/*": ["a/1.parquet", "b/1.parquet"],
        "saved": ["train/data-00000-of-00001.parquet"],
    }
    for number, (argument, expected) in enumerate(cases.items()):
        output = tmp_path / f"out{number}"
        done = embed_here(argument, "-o", output)
        assert done.returncode == 0, done.stderr
        assert names(output) == expected, argument


def test_unknown_kinds_are_refused_by_name(embed_here: EmbedHere, tmp_path: Path) -> None:
    for name in ("x.xlsx", "x.json", "x.txt.gz", "x.de", "x.orc", "x.parquet.bz2", "x.csv.xz"):
        (tmp_path / name).write_bytes(b"a line\n")
        done = embed_here(tmp_path / name, "-o", tmp_path / "out.npy")
        assert_error(done, 1, f"{name} is of a kind that is not read", ".parquet")
    done = embed_here(tmp_path / "x.de", "-o", tmp_path / "out.npy", "--lines")
    assert done.returncode == 0, done.stderr
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.xml").touch()
    write(tmp_path / "data" / "x.parquet", table_of(TEXTS))
    done = embed_here(tmp_path / "data", "-o", tmp_path / "out")
    assert_error(done, 1, "x.xml is of a kind", f"such as '{tmp_path}/data/*.parquet'")
    assert embed_here(tmp_path / "data" / "*.parquet", "-o", tmp_path / "out").returncode == 0


@pytest.mark.parametrize("name", ["in", "in.txt", "-"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1" + bytes(100), "a Parquet file"),
        (gzip.compress(b"a\n"), "compressed by gzip"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
    ],
    ids=["parquet", "gzip", "zip"],
)
def test_tables_and_archives_are_never_lines(
    name: str, content: bytes, words: str, embed_here: EmbedHere, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    (tmp_path / "in").write_bytes(content)
    done = embed_here(name, stdin=content)
    assert_error(done, 1, words)
    assert done.stdout == b""


def test_tables_without_an_output_are_bad_usage(tiny_bundle: Path, tmp_path: Path) -> None:
    pyarrow.csv.write_csv(table_of(TEXTS), tmp_path / "x.csv")
    assert_error(embed(tiny_bundle, tmp_path / "x.csv"), 2, "tables need -o")


def broken(folder: Path) -> dict[str, tuple[str, ...]]:
    """Write tables that cannot be embedded, and return what errors must say of each."""
    write(folder / "column.parquet", table_of(many(50)).rename_columns(["id", "body", "lang"]))
    strings = table_of(many(50)).set_column(0, "id", pa.array([str(number) for number in range(50)]))
    write(folder / "mixed.parquet", strings)
    write(folder / "types.parquet", table_of(many(50)).set_column(1, "text", pa.array(range(50))))
    write(folder / "nulls.parquet", table_of([*many(250), None, *many(49)]), 100)
    write(folder / "huge.parquet", table_of([*many(150), "boat " * 20_000_000, *many(49)]), 100)
    corrupt = write(folder / "corrupt.parquet", table_of(many(9_000)), 3_000)
    column = pyarrow.parquet.ParquetFile(corrupt).metadata.row_group(1).column(1)
    content = bytearray(corrupt.read_bytes())
    # The dictionary's page, which has the texts, is before the data pages.
    first = min(column.dictionary_page_offset, column.data_page_offset)
    middle = first + column.total_compressed_size // 2
    content[middle : middle + 2000] = bytes(2000)
    corrupt.write_bytes(content)
    (folder / "cut.parquet").write_bytes(bytes(content[: len(content) // 2]))
    (folder / "bad.csv").write_text("id,text,lang\n1,a,en\n2,b\n")
    (folder / "empty.jsonl").touch()
    (folder / "worse.jsonl").write_text('{"id": 1, "text": "a", "lang": "en"}\nnot JSON\n')
    return {
        "column.parquet": ("has no column 'text'", "'body'"),
        "mixed.parquet": ("has string in the column 'id'", "int64"),
        "types.parquet": ("has int64 in the column 'text', not text",),
        "nulls.parquet": ("row group 2", "1 row without a text", "row 50 of it", "--nulls"),
        "huge.parquet": ("row group 1", "100,000,000 bytes", "row 50 of it", "--max-text-bytes"),
        "corrupt.parquet": ("row group 1", "cannot be read"),
        "cut.parquet": ("cannot be read",),
        "bad.csv": ("cannot be read",),
        "empty.jsonl": ("is empty", "remove it"),
        "worse.jsonl": ("cannot be read",),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_broken_is_named_and_the_others_are_done(
    workers: int, tiny_bundle: Path, embed_here: EmbedHere, tmp_path: Path
) -> None:
    words = broken(tmp_path / "in")
    for number in range(3):
        write(tmp_path / "in" / f"a{number}.parquet", table_of(many(200)))
    arguments = ("--keep", "id,lang", "-o", tmp_path / "out", "--workers", workers)
    done = embed(tiny_bundle, tmp_path / "in", *arguments)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert lines[-1] == "monograph: error: 10 of 13 tables failed, the other 3 tables are done"
    assert len(lines) == 11
    for name, expected in words.items():
        (line,) = (line for line in lines if f"/{name} " in line)
        assert all(word in line for word in expected), line
    assert names(tmp_path / "out") == ["a0.parquet", "a1.parquet", "a2.parquet"]
    for name in words if workers == 1 else ():
        only = embed_here(tmp_path / "in" / "a0.parquet", tmp_path / "in" / name, *arguments)
        assert_error(only, 1, f"/{name}", *words[name], "; the other table is done")
        assert len(only.stderr.decode().splitlines()) == 1
        assert names(tmp_path / "out") == ["a0.parquet", "a1.parquet", "a2.parquet"]


@pytest.mark.parametrize(("kind", "place"), [("in.parquet", "row group 0"), ("in.feather", "record batch 0")])
def test_rows_are_counted_from_the_group_and_not_from_the_block(
    kind: str, place: str, embed_here: EmbedHere, tmp_path: Path
) -> None:
    table = table_of([*["a"] * 9_000, None, "b"])
    if kind == "in.parquet":
        write(tmp_path / kind, table, 10_000)
    else:
        pyarrow.feather.write_feather(table, str(tmp_path / kind), chunksize=10_000)
    assert_error(embed_here(kind, "-o", "out"), 1, place, "the first is row 9000 of it")


def room_for(size: int) -> Callable[[], None]:
    """Let the process write no file beyond ``size`` bytes, as a full disk would."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "npy", "jsonl"])
def test_a_full_disk(file_format: str, tiny_bundle: Path, embed_here: EmbedHere, tmp_path: Path) -> None:
    write(tmp_path / "in" / "big.parquet", table_of(many(4_000)))
    write(tmp_path / "in" / "small.parquet", table_of(many(100)))
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--format", file_format)
    done = embed(tiny_bundle, *arguments, before=room_for(200_000))
    assert_error(done, 1, "big.parquet is not embedded", "File too large", "the other table is done")
    assert len(done.stderr.decode().splitlines()) == 1
    assert not any("big" in path.name for path in (tmp_path / "out").iterdir())
    assert embed_here(*arguments).returncode == 0
    assert f"small.{file_format}" in names(tmp_path / "out")
    assert f"big.{file_format}" in names(tmp_path / "out")


def test_nulls_and_empty_texts_by_policy(tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path) -> None:
    texts = ["a", None, "", "b", None]
    write(tmp_path / "in.parquet", table_of(texts))
    a, empty, b = tiny_embedder.encode(["a", "", "b"])
    cases: dict[tuple[str, ...], list[tuple[int, Any]]] = {
        ("--nulls", "null"): [(0, a), (1, None), (2, empty), (3, b), (4, None)],
        ("--nulls", "skip"): [(0, a), (2, empty), (3, b)],
        ("--nulls", "embed"): [(0, a), (1, empty), (2, empty), (3, b), (4, empty)],
        ("--nulls", "skip", "--empties", "null"): [(0, a), (2, None), (3, b)],
        ("--nulls", "null", "--empties", "skip"): [(0, a), (1, None), (3, b), (4, None)],
    }
    for number, (options, expected) in enumerate(cases.items()):
        output = tmp_path / f"{number}.parquet"
        done = embed_here(tmp_path / "in.parquet", "--keep", "id", "-o", output, *options)
        assert done.returncode == 0, done.stderr
        rows = pyarrow.parquet.read_table(output).to_pylist()
        assert [row["id"] for row in rows] == [place for place, _ in expected]
        for row, (_, vector) in zip(rows, expected, strict=True):
            if vector is None:
                assert row["embedding"] is None
            else:
                np.testing.assert_allclose(row["embedding"], vector, atol=1e-6)
    done = embed_here(tmp_path / "in.parquet", "-o", tmp_path / "e.parquet", "--empties", "error", "--nulls", "skip")
    assert_error(done, 1, "row group 0", "1 row without a text", "(empty)", "--empties")


def test_the_documented_reader_leaves_out_rows_without_a_vector(
    tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path
) -> None:
    write(tmp_path / "in.parquet", table_of(["a", None]))
    assert embed_here("in.parquet", "-o", "out.parquet", "--nulls", "null").returncode == 0
    (code,) = blocks(DOCS / "how-to" / "embed-tables.md", "python")
    names_of_page: dict[str, Any] = {}
    exec(code, names_of_page)  # noqa: S102  # of our own page
    vectors, made = names_of_page["read_vectors"](tmp_path / "out.parquet")
    np.testing.assert_allclose(vectors, tiny_embedder.encode(["a"]), atol=1e-6)
    assert made["nulls"] == "null"


def test_types_of_csv_can_be_set(embed_here: EmbedHere, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n007,a\n008,b\n")
    (tmp_path / "b.csv").write_text("id,text\nx9,12\n,b\n")
    files = (tmp_path / "a.csv", tmp_path / "b.csv")
    done = embed_here(*files, "--keep", "id", "-o", tmp_path / "out")
    assert_error(done, 1, "b.csv has string in the column 'id'", "--keep id:string")
    done = embed_here(*files, "--keep", "id:string", "-o", tmp_path / "typed")
    assert done.returncode == 0, done.stderr
    tables = [pyarrow.parquet.read_table(tmp_path / "typed" / f"{name}.parquet") for name in "ab"]
    assert [table["id"].to_pylist() for table in tables] == [["007", "008"], ["x9", ""]]
    assert_error(embed_here(*files, "--keep", "id:word", "-o", tmp_path / "out"), 1, "'word' is no type")


def test_a_finished_table_is_written_again_only_for_another_input(embed_here: EmbedHere, tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "in" / f"{number}.parquet", table_of(many(1_000)))
    arguments = (tmp_path / "in", "-o", tmp_path / "out")
    assert embed_here(*arguments).returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write(tmp_path / "in" / "1.parquet", table_of(many(1_001)))
    again = embed_here(*arguments)
    assert again.stdout.decode() == f"{tmp_path}/out: 2,001 rows in 2 tables, 1 of them done before\n"
    assert (tmp_path / "out" / "0.parquet").read_bytes() == before["0.parquet"]
    other = embed_here(*arguments, "--precision", "binary")
    assert other.returncode == 1
    assert b"2 of 2 tables failed" in other.stderr
    assert b"was written with other settings (encoder was" in other.stderr
    assert embed_here(*arguments, "--precision", "binary", "--replace").returncode == 0
    (tmp_path / "out" / "0.parquet").write_bytes(b"somebody's")
    assert_error(embed_here(*arguments, "--precision", "binary"), 1, "0.parquet is there and not an output")
    assert (tmp_path / "out" / "0.parquet").read_bytes() == b"somebody's"


def test_duplicates_are_computed_once(tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path) -> None:
    texts = [f"text {number % 700}" for number in range(10_000)]
    write(tmp_path / "in" / "0.parquet", table_of(texts[:5_000]))
    write(tmp_path / "in" / "1.parquet", table_of(texts[5_000:], 5_000))
    # A megabyte has room for all, and then for some.
    done = embed_here(tmp_path / "in", "--keep", "id", "-o", tmp_path / "out", "--deduplicate", "1")
    assert done.returncode == 0, done.stderr
    table = pa.concat_tables(pyarrow.parquet.read_table(tmp_path / "out" / f"{number}.parquet") for number in range(2))
    assert_rows(table, texts, tiny_embedder)


def test_outputs_and_inputs_that_cannot_be(embed_here: EmbedHere, tmp_path: Path) -> None:
    one, two = (write(tmp_path / name / "x.parquet", table_of(TEXTS)) for name in "ab")
    (tmp_path / "file").touch()
    write(tmp_path / "c" / "x.parquet", table_of(TEXTS))
    pyarrow.csv.write_csv(table_of(TEXTS), tmp_path / "c" / "x.csv")
    cases: dict[tuple[object, ...], tuple[str, ...]] = {
        (one, two, "-o", "out"): ("would have the same output",),
        (one, one, "-o", "out"): ("is named twice",),
        (one, tmp_path / "y.parquet", "-o", "out"): ("there is no file",),
        ("*.parquet", "-o", "out"): ("no file matches",),
        ("s3://bucket/x.parquet", "-o", "out"): ("is an address",),
        (one, "-o", tmp_path / "a"): ("x.parquet is an input",),
        (one, "-o", "file"): ("is a file: name a folder",),
        (one, "-o", "out.csv"): ("out.csv is named as a table of a format that is not written",),
        (one, "-o", "out.parquet.gz"): ("out.parquet.gz is named as a table of a format",),
        (tmp_path / "a", tmp_path / "b", "-o", "out.parquet"): ("would have the same output: name the folder",),
        (tmp_path / "c", "-o", "out"): ("would have the same output: embed them in a run each",),
        (one, "-o", "out.npy", "--keep", "id"): ("no place for --keep",),
        (one, "-o", "out.npy", "--nulls", "null"): ("has no null",),
        (one, "-o", "out.parquet", "--format", "npy"): ("is not named as npy",),
        (one, "-o", "out", "--keep", "id,id"): ("name each column once",),
        (one, "-o", "out", "--keep", "lang,nr"): ("has no column 'nr'",),
        (one, "-o", "out", "--vector-column", "id", "--keep", "id"): ("is one to keep",),
        (one, "-o", "out", "--field", "text"): ("--column",),
        (one, "-o", "out", "--lines", "--keep", "id"): ("only for tables",),
        (one, "-o", "out", "--max-active-dims", "5"): ("and no --max-active-dims: leave that out",),
        (one, "-o", "out", "--prompt-name", "nobody's"): ("is not a prompt",),
        (one, "-o", "out", "--precision", "int8"): ("needs ranges",),
        (one, "-o", tmp_path / "file" / "out"): ("file/out",),
    }
    before = names(tmp_path)
    for arguments, words in cases.items():
        assert_error(embed_here(*arguments), 1, *words)
    # Not even an empty folder.
    assert names(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "file"]


def test_of_many_failures_the_first_are_named(embed_here: EmbedHere, tmp_path: Path) -> None:
    for number in range(22):
        write(tmp_path / "in" / f"{number:02}.parquet", table_of([None]))
    done = embed_here(tmp_path / "in", "-o", tmp_path / "out")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 21
    assert lines[-1] == "monograph: error: 22 of 22 tables failed (the first 20 are named)"


def wait_for_output(folder: Path, count: int) -> None:
    end = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def processes_with(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and word in (folder / "environ").read_text("utf-8", "replace"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def many_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(20):
        write(folder / f"{number:02}.parquet", table_of(many(1_200, number), number))
    return folder


@pytest.fixture(scope="module")
def whole(many_tables: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing ended, of one process."""
    output = tmp_path_factory.mktemp("whole")
    done = embed(tiny_bundle, many_tables, "--keep", "id", "--threads", 1, "-o", output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [1, 2])
def test_ended_and_run_again_gives_the_same_bytes(
    workers: int, how: signal.Signals, code: int, tiny_bundle: Path, many_tables: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = (many_tables, "--keep", "id", "--workers", workers, "--threads", 1)
    output = tmp_path / "out"
    command = ["embed", tiny_bundle, *ON_CPU, *arguments, "-o", output]
    mark = f"MARK_OF_TEST={tmp_path}"
    with subprocess.Popen(
        [sys.executable, "-m", "monograph", *map(str, command)],
        stderr=subprocess.PIPE, env=os.environ | {"MARK_OF_TEST": str(tmp_path)},
    ) as process:  # fmt: skip
        wait_for_output(output, 3)
        process.send_signal(how)
        assert process.wait(60) == code
        message = process.stderr.read().decode() if process.stderr else ""
    if how == signal.SIGTERM:
        assert message.startswith("monograph: terminated: ")
        assert message.endswith(" of 20 tables are done, the same command continues\n")
        assert not list(output.glob(".*")), "what was begun is left"
    end = time.monotonic() + 20
    while processes_with(mark):
        assert time.monotonic() < end, "workers outlive their parent"
        time.sleep(0.05)
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert 3 <= len(finished) < 20
    again = embed(tiny_bundle, *arguments, "-o", output)
    assert again.returncode == 0, again.stderr
    assert f"{len(finished)} of them done before" in again.stdout.decode()
    assert names(output) == names(whole)
    for path in output.iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()
        assert path.stat().st_mtime_ns == finished.get(path.name, path.stat().st_mtime_ns)


def test_workers_choose_themselves_and_share_no_cpu(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    texts = many(3_000)
    write(tmp_path / "in" / "0.parquet", table_of(texts[:2_000]))
    write(tmp_path / "in" / "1.parquet", table_of(texts[2_000:], 2_000))
    arguments = (tmp_path / "in", "--keep", "id", "-o", tmp_path / "out", "--workers", "auto", "-v")
    done = embed(tiny_bundle, *arguments)
    assert done.returncode == 0, done.stderr
    if len(os.sched_getaffinity(0)) > 1:
        assert b"workers: 1 x " in done.stderr
    tables = [pyarrow.parquet.read_table(tmp_path / "out" / f"{number}.parquet") for number in range(2)]
    assert_rows(pa.concat_tables(tables), texts, tiny_embedder)
    assert pc.sum(pc.is_null(tables[0]["embedding"])).as_py() == 0
