"""`monograph embed` of tables: what cannot be embedded, read or written is one line that names it."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from support.command import assert_error
from support.tables import TEXTS, EmbedHere, embed, many, names, table_of, write


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
        (one, "-o", "out", "--precision", "int8"): ("needs ranges= (--ranges FILE.npy)",),
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
