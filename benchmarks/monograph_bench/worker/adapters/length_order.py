"""Batches of texts of like length, for libraries that take one batch a call and leave the rest to their users."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Of Sentence Transformers, and the most common in what users write.
DEFAULT_BATCH_SIZE = 32


def in_length_order(
    texts: list[str], batch_size: int | None, embed: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Embed texts from the longest to the shortest, in characters, and return the vectors in the caller's order.

    ``embed`` gives the vectors of one batch, float32 [k, d]; the result is float32 [n, d].
    """
    size = batch_size or DEFAULT_BATCH_SIZE
    order = np.argsort([-len(text) for text in texts], kind="stable")
    batches = [[texts[index] for index in order[begin : begin + size]] for begin in range(0, len(texts), size)]
    found = np.concatenate([embed(batch) for batch in batches])
    vectors = np.empty_like(found)
    vectors[order] = found
    return vectors
