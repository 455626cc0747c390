"""`monograph embed` of tables: every kind in, every format out, and what becomes of nulls and empty texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from monograph import Embedder
from support.command import assert_error
from support.pages import DOCS, blocks
from support.tables import (
    TEXTS,
    WRITERS,
    EmbedHere,
    assert_rows,
    embed,
    many,
    names,
    table_of,
    vectors_of,
    write,
    write_stream,
)


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
