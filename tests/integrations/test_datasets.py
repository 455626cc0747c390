"""Hugging Face datasets: ``map`` with ``EmbedBatch``, and `monograph embed` of what they save."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from datasets import Dataset, DatasetDict, load_from_disk

from monograph import Embedder
from monograph.integrations.ray import EmbedBatch
from support.command import monograph
from support.frameworks import DOCUMENTS

TEXTS = [f"{text} {number}" for number in range(50) for text in DOCUMENTS]


def rows() -> Dataset:
    return Dataset.from_dict({"id": list(range(len(TEXTS))), "text": TEXTS})


def test_map_in_one_process_and_in_two(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    expected = tiny_embedder.encode(TEXTS)
    for processes in (None, 2):
        embedded = rows().map(EmbedBatch(tiny_bundle, device="cpu"), batched=True, batch_size=100, num_proc=processes)
        np.testing.assert_allclose(np.array(embedded["embedding"]), expected, atol=1e-6)


def test_map_of_arrow_tables(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embedded = rows().with_format("arrow").map(EmbedBatch(tiny_bundle, device="cpu"), batched=True, batch_size=100)
    vectors = np.array(embedded.with_format(None)["embedding"])
    np.testing.assert_allclose(vectors, tiny_embedder.encode(TEXTS), atol=1e-6)


def test_the_same_object_is_the_same_to_the_cache_of_datasets(tiny_bundle: Path) -> None:
    embed = EmbedBatch(tiny_bundle, device="cpu")
    from datasets.fingerprint import Hasher

    before = Hasher.hash(embed)
    embed({"text": ["a"]})
    assert Hasher.hash(embed) == before


def test_a_saved_dataset_is_a_table(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    splits = rows().train_test_split(0.2, seed=0)
    DatasetDict({name: split.flatten_indices() for name, split in splits.items()}).save_to_disk(str(tmp_path / "data"))
    done = monograph("embed", tiny_bundle, tmp_path / "data", "--keep", "id", "-o", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "500 rows in 2 tables" in done.stdout.decode()
    expected = tiny_embedder.encode(TEXTS)
    for split in ("train", "test"):
        (file,) = (tmp_path / "out" / split).iterdir()
        table = pyarrow.parquet.read_table(file)
        saved: Any = load_from_disk(str(tmp_path / "data"))[split]
        assert table["id"].to_pylist() == list(saved["id"])
        np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), expected[list(saved["id"])], atol=1e-6)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("datasets") == "(2, 384)\n"
