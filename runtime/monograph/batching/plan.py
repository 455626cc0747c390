"""Which texts go through the graph together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# The price of a batch is what it costs the engine: padded tokens, and for long texts attention, whose work
# and memory grow with the square of the length. At this length attention doubles the price of a token.
ATTENTION_EQUALS_LINEAR_AT_TOKENS = 512
# Times its best price that a batch of a caller's own size may cost: larger ones are slower (docs/performance.md), and
# hold so much more memory.
MOST_TIMES_BEST_PRICE = 8
# Behind so many, two or three small batches more are nothing. The rows of a last batch are of any number: of 104 shapes
# that 200,000 texts came in, 58 were its.
MANY_BATCHES = 16


def price(rows: int, longest: int) -> float:
    """Return the price of a batch in tokens: rows times longest, and more where attention is long."""
    return rows * longest * (1 + longest / ATTENTION_EQUALS_LINEAR_AT_TOKENS)


def plan_batches(
    lengths: NDArray[np.int64],
    tokens_per_batch: int,
    batch_size: int | None,
    max_rows: int | None = None,
    max_tokens: int | None = None,
    *,
    few_shapes: bool = False,
) -> Iterator[NDArray[np.intp]]:
    """Yield the positions (intp [rows]) of the texts of each batch, longest texts first.

    ``lengths`` (int64 [n]) counts the tokens of each text. A batch holds at least one text: as many as
    ``tokens_per_batch`` pays for, or ``batch_size`` where that is given and ``MOST_TIMES_BEST_PRICE`` as much pays for
    them; and never more than ``max_rows``, or than fit into ``max_tokens`` with their padding. Texts of like length
    share a batch, so that little of it is padding; the longest come first, so that too large a batch fails at once.
    Behind many batches what is left for the last is cut to powers of two where the engine wants ``few_shapes``.
    """
    order = np.argsort(-lengths, kind="stable")
    start = number = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        paid = max(1, int(tokens_per_batch * (MOST_TIMES_BEST_PRICE if batch_size else 1) // price(1, longest)))
        fitting = paid if max_tokens is None else max(1, max_tokens // longest)
        rows = min(paid, fitting, batch_size or paid, max_rows or paid)
        left = len(order) - start
        if few_shapes and number >= MANY_BATCHES and left < rows:
            rows = 1 << (left.bit_length() - 1)
        yield order[start : start + rows]
        start += rows
        number += 1
