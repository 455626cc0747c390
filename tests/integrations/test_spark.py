"""Spark on this machine: ``mapInPandas`` with ``EmbedBatch``."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from monograph import Embedder
from monograph.integrations.ray import EmbedBatch
from support.frameworks import DOCUMENTS

TEXTS = [f"{text} {number}" for number in range(30) for text in DOCUMENTS]
SCHEMA = "id long, text string, embedding array<float>"


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    # The workers' Python, which by default is the first in PATH.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    yield session
    session.stop()


def embedded(rows: Any) -> Any:
    found = sorted(rows.collect(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(len(TEXTS)))
    return np.array([row["embedding"] for row in found], np.float32)


def test_partitions(spark: Any, tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embed = EmbedBatch(str(tiny_bundle), device="cpu", threads=1)
    rows = spark.createDataFrame(list(enumerate(TEXTS)), "id long, text string").repartition(4)
    result = rows.mapInPandas(lambda frames: map(embed, frames), SCHEMA)
    np.testing.assert_allclose(embedded(result), tiny_embedder.encode(TEXTS), atol=1e-6)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("spark") == "2\n"
