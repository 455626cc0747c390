"""A text's vector does not depend on its neighbours: every length 1..256, every position in a batch.

By default the real MiniLM has every fourth length in one position of a batch; all of them in all positions take minutes
(-m slow).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.tokenization import TokenizedTexts

MAX_LENGTH = 256


def random_tokens(vocabulary_size: int, lengths: NDArray[np.int64]) -> TokenizedTexts:
    """Token ids of a text of each length."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.random.default_rng(0).integers(5, vocabulary_size, starts[-1])
    return TokenizedTexts(ids, np.zeros_like(ids), starts)


@pytest.mark.parametrize(
    ("model", "step", "rows", "positions"),
    [
        ("tiny_embedder", 1, 3, 3),
        ("tiny_embedder", 1, 8, 8),
        ("minilm_embedder", 4, 4, 1),
        pytest.param("minilm_embedder", 1, 4, 4, marks=pytest.mark.slow),
    ],
)
def test_batched_equals_single_at_every_length_and_position(
    model: str, step: int, rows: int, positions: int, request: pytest.FixtureRequest
) -> None:
    # The longest is always there.
    lengths = np.arange(MAX_LENGTH, 0, -step)[::-1].copy()
    embedder: Embedder = request.getfixturevalue(model)
    runner = embedder._open.routes.main.runner
    tokens = random_tokens(embedder.manifest.tokenizer.vocabulary_size, lengths)
    singles = np.empty((len(lengths), runner.output_width), np.float32)
    for row, vectors in runner.run_batches(tokens, np.arange(len(lengths), dtype=np.intp)[:, np.newaxis]):
        singles[row] = vectors
    assert np.isfinite(singles).all()
    order = np.random.default_rng(1).permutation(len(lengths))
    groups = [order[start : start + rows] for start in range(0, len(order), rows)]
    for shift in range(positions):
        for places, vectors in runner.run_batches(tokens, [np.roll(group, shift) for group in groups]):
            assert np.abs(vectors - singles[places]).max() <= 1e-5
