"""Daft: a batch function with ``EmbedBatch``."""
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

from pathlib import Path
from typing import Any

import daft
import numpy as np

from monograph import Embedder
from monograph.integrations.ray import EmbedBatch
from support.frameworks import DOCUMENTS


def test_a_batch_function(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embed = EmbedBatch(tiny_bundle, device="cpu")

    @daft.func.batch(return_dtype=daft.DataType.embedding(daft.DataType.float32(), 24))
    def embedding(text: daft.Series) -> Any:
        return embed({"text": text.to_pylist()})["embedding"]

    rows = daft.from_pydict({"text": DOCUMENTS}).with_column("embedding", embedding(daft.col("text")))
    np.testing.assert_allclose(np.stack(rows.to_pydict()["embedding"]), tiny_embedder.encode(DOCUMENTS), atol=1e-6)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("daft") == "2\n"
