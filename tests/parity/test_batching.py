"""A text's vector does not depend on its neighbours: every length 1..256, every position in a batch.

By default the real MiniLM has every length in one position of a batch; in all positions it takes minutes (-m slow).
"""

from __future__ import annotations

import numpy as np
import pytest

from monograph import Embedder
from monograph.tokenization import TokenizedTexts

LENGTHS = np.arange(1, 257)


def random_tokens(vocabulary_size: int) -> TokenizedTexts:
    """Token ids of a text of each length 1..256."""
    starts = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    ids = np.random.default_rng(0).integers(5, vocabulary_size, starts[-1])
    return TokenizedTexts(ids, np.zeros_like(ids), starts)


@pytest.mark.parametrize(
    ("model", "rows", "positions"),
    [
        ("tiny_embedder", 3, 3),
        ("tiny_embedder", 8, 8),
        ("minilm_embedder", 4, 1),
        pytest.param("minilm_embedder", 4, 4, marks=pytest.mark.slow),
    ],
)
def test_batched_equals_single_at_every_length_and_position(
    model: str, rows: int, positions: int, request: pytest.FixtureRequest
) -> None:
    embedder: Embedder = request.getfixturevalue(model)
    runner = embedder._open.routes.main.runner
    tokens = random_tokens(embedder.manifest.tokenizer.vocabulary_size)
    singles = np.empty((len(LENGTHS), runner.output_width), np.float32)
    alone = iter(np.arange(len(LENGTHS), dtype=np.intp)[:, np.newaxis])
    for batch, vectors in runner.run_batches(tokens, alone):
        singles[batch] = vectors
    assert np.isfinite(singles).all()
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    groups = [order[start : start + rows] for start in range(0, len(order), rows)]
    for shift in range(positions):
        shifted = iter([np.roll(group, shift) for group in groups])
        for batch, vectors in runner.run_batches(tokens, shifted):
            assert np.abs(vectors - singles[batch]).max() <= 1e-5
