"""`monograph embed` of tables into indexes of FAISS and usearch: what they find, whole or not there, and numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from support.command import assert_error, monograph

pytest.importorskip("faiss")
pytest.importorskip("usearch")
FORMATS = ["faiss", "usearch"]


def write(path: Path, texts: Sequence[str | None], ids: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), path)
    return path


def embed(bundle: Path, *arguments: object) -> Any:
    return monograph("embed", bundle, *arguments, "--device", "cpu")


def nearest(output: Path, queries: NDArray[Any]) -> list[int]:
    """Return the number that an index of float32 vectors has for the nearest of each."""
    if output.suffix == ".faiss":
        import faiss

        _, numbers = faiss.read_index(str(output)).search(queries, 1)
        return [int(number) for number in numbers[:, 0]]
    from usearch.index import Index

    return [int(number) for number in Index.restore(str(output)).search(queries, 1).keys[:, 0]]


def many(count: int) -> list[str]:
    """Return texts whose vectors differ also where the model has a handful of words."""
    draw = random.Random(0)  # noqa: S311
    return ["".join(draw.choices("abcdefghijklmnop   ", k=draw.randint(5, 50))) for _ in range(count)]


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_index_finds_texts_by_their_numbers(
    file_format: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    texts, ids = many(300), [7_000_000_000 + 3 * number for number in range(300)]
    write(tmp_path / "in.parquet", texts, ids)
    output = tmp_path / f"out.{file_format}"
    arguments = [tmp_path / "in.parquet", "--keep", "id", "-o", output]
    done = embed(tiny_bundle, *arguments)
    assert done.stdout.decode() == f"{output}: 300 rows in 1 table\n", done.stderr
    vectors = tiny_embedder.encode(texts, normalize_embeddings=True)
    found = nearest(output, vectors)
    # A graph of neighbours may miss one.
    assert sum(one == other for one, other in zip(found, ids, strict=True)) >= (300 if file_format == "faiss" else 295)
    assert json.loads((tmp_path / f"out.{file_format}.json").read_text())["columns"] == ["id: int64"]
    before = output.read_bytes()
    again = embed(tiny_bundle, *arguments)
    assert again.stdout.decode() == f"{output}: 300 rows in 1 table, 1 of them done before\n", again.stderr
    assert output.read_bytes() == before


@pytest.mark.parametrize("file_format", FORMATS)
def test_rows_without_vectors_keep_the_numbers_of_the_others(
    file_format: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.parquet", ["a boat", None, "a mountain"], [1, 2, 3])
    write(tmp_path / "in" / "b.parquet", [None], [4])
    arguments = ["--format", file_format, "--nulls", "null", "-o", tmp_path / "out"]
    done = embed(tiny_bundle, tmp_path / "in", *arguments)
    assert done.returncode == 0, done.stderr
    vectors = tiny_embedder.encode(["a mountain", "a boat"], normalize_embeddings=True)
    assert nearest(tmp_path / "out" / f"a.{file_format}", vectors) == [2, 0]


@pytest.mark.parametrize("file_format", FORMATS)
def test_binary_vectors(file_format: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", ["a boat", "a mountain"], [11, 12])
    output = tmp_path / f"out.{file_format}"
    arguments = [tmp_path / "in.parquet", "--keep", "id", "--precision", "ubinary", "-o", output]
    assert embed(tiny_bundle, *arguments).returncode == 0
    query = tiny_embedder.encode(["a mountain"], precision="ubinary")
    if file_format == "faiss":
        import faiss

        distances, numbers = faiss.read_index_binary(str(output)).search(query, 1)
        assert (int(distances[0, 0]), int(numbers[0, 0])) == (0, 12)
    else:
        from usearch.index import Index

        found = Index.restore(str(output)).search(query[0], 1)
        assert (int(found.distances[0]), int(found.keys[0])) == (0, 12)
    assert b"1 of them done before" in embed(tiny_bundle, *arguments).stdout


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_an_index_does_not_take(file_format: str, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out.{file_format}"
    table = pa.table(
        {"id": [1, None], "name": ["x", "y"], "big": pa.array([1, 2**64 - 1], pa.uint64()), "text": ["a", "b"]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    arguments = (tmp_path / "in.parquet", "-o", output)
    assert_error(embed(tiny_bundle, *arguments, "--keep", "name"), 1, "--keep one column of integers")
    assert_error(embed(tiny_bundle, *arguments, "--keep", "id,big"), 1, "--keep one column of integers")
    assert_error(embed(tiny_bundle, *arguments, "--keep", "id"), 1, "the column 'id' has a null")
    precision = {"faiss": "float16", "usearch": "binary"}[file_format]
    done = embed(tiny_bundle, *arguments, "--precision", precision)
    assert_error(done, 1, f"has no vectors of the precision {precision}: choose float32, ")
    if file_format == "faiss":
        assert_error(embed(tiny_bundle, *arguments, "--keep", "big"), 1, "outside of -9223372036854775808 to")
    else:
        repeated = pa.table({"id": [5, 4, 5], "text": ["a", "b", "c"]})
        # Added at once, and after the other.
        for rows in 3, 2:
            pyarrow.parquet.write_table(repeated, tmp_path / "twice.parquet", row_group_size=rows)
            done = embed(tiny_bundle, tmp_path / "twice.parquet", "-o", output, "--keep", "id")
            assert_error(done, 1, "takes each number once, and 5 is there again")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []
