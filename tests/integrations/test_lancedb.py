"""LanceDB: tables find what they find with sentence-transformers, and open the bundle again."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lance
import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector

import monograph.integrations.lancedb  # noqa: F401  # registers the function
from monograph import Embedder, InputError, MultiVectorEncoder
from support.command import assert_error
from support.command import monograph as command
from support.frameworks import DOCUMENTS, QUERIES
from support.small_disk import incompressible_texts, mounted

MULTI_VECTOR = Path(__file__).parents[1] / "data" / "multi-vector"
# Opens the table in another process and prints the first places for a query.
REOPEN = """
import sys, lancedb, monograph.integrations.lancedb
found = lancedb.connect(sys.argv[1]).open_table("texts").search(sys.argv[2]).limit(3).to_list()
print(*(row["place"] for row in found))
"""


def filled(folder: Path, function: Any) -> Any:
    class Text(LanceModel):
        place: int
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(folder).create_table("texts", schema=Text)
    table.add([{"place": place, "text": text} for place, text in enumerate(DOCUMENTS)])
    return table


def places(table: Any, query: str, limit: int = 5) -> list[int]:
    return [row["place"] for row in table.search(query).limit(limit).to_list()]


def vectors(table: Any) -> Any:
    return np.stack(table.to_arrow().column("vector").to_pylist())


def test_a_table_retrieves_as_with_sentence_transformers(minilm_bundle: Path, minilm: Path, tmp_path: Path) -> None:
    ours = filled(tmp_path / "ours", get_registry().get("monograph").create(name=str(minilm_bundle), device="cpu"))
    theirs = get_registry().get("sentence-transformers").create(name=str(minilm), device="cpu")
    their_table = filled(tmp_path / "theirs", theirs)
    np.testing.assert_allclose(vectors(ours), vectors(their_table), atol=1e-5)
    for query in QUERIES:
        assert places(ours, query) == places(their_table, query)


def test_a_table_opens_the_bundle_again(minilm_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(minilm_bundle.parent)
    table = filled(tmp_path, get_registry().get("monograph").create(name=minilm_bundle.name, device="cpu"))
    expected = [str(place) for place in places(table, QUERIES[0], 3)]
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", REOPEN, str(tmp_path), QUERIES[0]], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == expected, done.stderr


def test_queries_and_documents_have_their_prompts(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    function = get_registry().get("monograph").create(name=str(tiny_bundle), device="cpu", normalize=False)
    np.testing.assert_allclose(vectors(filled(tmp_path, function)), tiny_embedder.encode_document(DOCUMENTS), atol=1e-6)
    assert np.abs(tiny_embedder.encode_document(DOCUMENTS) - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3
    query = tiny_embedder.encode_query(QUERIES[0])
    np.testing.assert_allclose(function.compute_query_embeddings(QUERIES[0])[0], query, atol=1e-6)


def test_a_relative_path_is_that_of_the_folder_at_the_time(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    function = get_registry().get("monograph").create(name=tiny_bundle.name, device="cpu")
    monkeypatch.chdir(tmp_path)
    assert function.ndims() == 24


def test_a_model_that_was_closed_is_opened_again(tiny_bundle: Path) -> None:
    function = get_registry().get("monograph").create(name=str(tiny_bundle), device="cpu")
    function._model().close()
    assert len(function.compute_query_embeddings(QUERIES[0])[0]) == 24


def test_one_text_is_no_collection(tiny_bundle: Path) -> None:
    function = get_registry().get("monograph").create(name=str(tiny_bundle), device="cpu")
    with pytest.raises(InputError, match="put it in a list"):
        function.generate_embeddings("abc")


def test_another_bundle_at_the_path_is_refused(tiny_bundle: Path, minilm_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    filled(tmp_path / "db", get_registry().get("monograph").create(name=str(tmp_path / "bundle"), device="cpu"))
    stored = get_registry().get("monograph").create(name=str(tmp_path / "bundle"), device="cpu").safe_model_dump()
    again = get_registry().get("monograph").create(**{**stored, "name": str(minilm_bundle)})
    with pytest.raises(InputError, match="is not the bundle that embedded what is stored"):
        again.compute_query_embeddings(QUERIES[0])


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("lancedb") == "Refunds are paid within ten days.\n"


def test_tables_become_datasets(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    texts = [f"text {number} " + "boat " * (number * 7 % 11) for number in range(3_000)]
    (tmp_path / "in").mkdir()
    for part in range(2):
        ids = range(part * 1_500, part * 1_500 + 1_500)
        table = pa.table({"id": pa.array(ids, pa.int64()), "text": [texts[place] for place in ids]})
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"part{part}.parquet")
    arguments = ["embed", tiny_bundle, tmp_path / "in", "--keep", "id,text", "--device", "cpu", "--format", "lance"]
    done = command(*arguments, "-o", tmp_path / "out")
    assert done.stdout.decode() == f"{tmp_path}/out: 3,000 rows in 2 tables\n", done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part0.lance", "part1.lance"]
    opened = lancedb.connect(tmp_path / "out").open_table("part1")
    assert opened.count_rows() == 1_500
    expected = tiny_embedder.encode(texts)
    rows = opened.to_arrow().sort_by("id")
    np.testing.assert_allclose(np.stack(rows["embedding"].to_pylist()), expected[1_500:], atol=1e-6)
    best = opened.search(expected[2_000], vector_column_name="embedding").limit(1).to_list()[0]
    np.testing.assert_allclose(best["embedding"], expected[2_000], atol=1e-6)
    again = command(*arguments, "-o", tmp_path / "out")
    assert again.stdout.decode().endswith("3,000 rows in 2 tables, 2 of them done before\n"), again.stderr


def embed_tokens(folder: Path, texts: list[str | None], *options: str) -> Any:
    pyarrow.parquet.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / "in.parquet")
    arguments = ["--keep", "id", "--task", "document", "--prompt-name", "document", "--nulls", "null", *options]
    return command(
        "embed", MULTI_VECTOR, folder / "in.parquet", "-o", folder / "texts.lance", "--device", "cpu", *arguments
    )


@pytest.mark.parametrize(("precision", "pool_factor"), [("float32", 1), ("float16", 1), ("float32", 2)])
def test_vectors_of_tokens_are_searched_by_maxsim(tmp_path: Path, precision: str, pool_factor: float) -> None:
    done = embed_tokens(tmp_path, [*DOCUMENTS, None], "--precision", precision, "--pool-factor", str(pool_factor))
    assert done.returncode == 0, done.stderr
    table = lancedb.connect(tmp_path).open_table("texts")
    assert table.to_arrow().sort_by("id")["embedding"].to_pylist()[-1] is None
    with MultiVectorEncoder(MULTI_VECTOR, device="cpu") as model:
        queries = model.encode_query(QUERIES)
        every = model.similarity(queries, model.encode_document(DOCUMENTS, pool_factor=pool_factor))
    for query, expected in zip(queries, every, strict=True):
        rows = table.search(query, vector_column_name="embedding").distance_type("dot").limit(100).to_list()
        assert sorted(row["id"] for row in rows) == list(range(len(DOCUMENTS)))
        # As the page says.
        scores = [len(query) - row["_distance"] for row in rows]
        np.testing.assert_allclose(
            scores, expected[[row["id"] for row in rows]], atol=1e-4 if precision == "float32" else 0.05
        )
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("precision", ["int8", "binary", "ubinary"])
def test_vectors_of_tokens_that_lance_does_not_search_are_refused(tmp_path: Path, precision: str) -> None:
    done = embed_tokens(tmp_path, ["a"], "--precision", precision)
    assert_error(done, 1, f"does not search vectors of tokens of the precision {precision}: choose float32 or float16")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_dataset_is_there_whole_or_not_at_all(tiny_bundle: Path, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3], "text": ["a", None, "c"]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    output = tmp_path / "out.lance"
    arguments = ["embed", tiny_bundle, tmp_path / "in.parquet", "--keep", "id", "--device", "cpu", "-o", output]
    assert_error(command(*arguments), 1, "without a text in the column 'text'")
    assert not output.exists()
    assert command(*arguments, "--nulls", "null").returncode == 0
    assert lance.dataset(output).to_table()["embedding"].null_count == 1
    assert_error(command(*arguments, "--nulls", "skip"), 1, "was written with other settings", "--replace")
    done = command(*arguments, "--nulls", "skip", "--replace")
    assert done.stdout.decode() == f"{output}: 2 rows in 1 table\n", done.stderr
    assert lance.dataset(output).to_table()["id"].to_pylist() == [1, 3]
    assert [path.name for path in tmp_path.iterdir() if "lance" in path.name] == ["out.lance"]


def test_a_full_disk_leaves_no_dataset(tiny_bundle: Path, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"text": incompressible_texts(300, 20_000)}), tmp_path / "in.parquet")
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", 2) as disk:
        arguments = ["--keep", "text", "--device", "cpu", "-o", disk.path / "out.lance"]
        done = command("embed", tiny_bundle, tmp_path / "in.parquet", *arguments)
        assert_error(done, 1, "in.parquet is not embedded", "No space left on device", f"the disk {disk.path}")
        assert list(disk.path.iterdir()) == []
