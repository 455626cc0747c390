"""Token ids to padded batches of bounded cost: which texts share a batch, how long it is padded, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import InputT, count_characters
from monograph.tokenization import TokenizedTexts

# Large enough that sorting by length leaves little padding, small enough that an interrupt costs little work: a
# window is what `monograph embed` writes and resumes by. At 20 texts/s, as a large model has them on two cores, 2,048
# texts are 100 s and 8,192 were 7 minutes; the smaller window costs 2 % of padding (docs/performance.md).
WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 500_000
# At this length attention doubles the cost of a token.
ATTENTION_EQUALS_LINEAR_AT_TOKENS = 512
# How much more than the fastest batch one of a caller's own size may cost: larger ones are slower
# (docs/performance.md), and hold so much more memory.
MAX_COST_RATIO = 8
# Behind so many batches, two or three small ones more cost next to nothing. A last batch may have any number of rows:
# of 104 shapes in which 200,000 texts were computed, 58 were its.
MANY_BATCHES = 16
# Padding buckets as (step, up to): fine where texts are short and a few tokens are much of them, then coarse.
_BUCKET_STEPS = ((2, 32), (4, 64), (8, 256), (32, 2048), (256, 1 << 16))


def split_into_windows(
    texts: Iterable[InputT], max_texts: int = WINDOW_TEXTS, max_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[InputT]]:
    """Yield texts, or pairs, in order as lists of bounded number and size; one may alone exceed the size."""
    window: list[InputT] = []
    size = 0
    for text in texts:
        length = count_characters(text)
        if window and size + length > max_characters:
            yield window
            window, size = [], 0
        window.append(text)
        size += length
        # At once and not with the next text, which may be long in coming or never be read.
        if len(window) >= max_texts:
            yield window
            window, size = [], 0
    if window:
        yield window


def deduplicate(texts: Sequence[InputT]) -> tuple[Sequence[InputT], NDArray[np.intp] | None]:
    """Return the distinct texts in the order they first occur, and where each of ``texts`` is among them (intp [n]).

    The positions are None where no text occurs twice, and what is returned is ``texts`` itself.
    """
    positions: dict[InputT, int] = {}
    for text in texts:
        positions.setdefault(text, len(positions))
    if len(positions) == len(texts):
        return texts, None
    return list(positions), np.fromiter((positions[text] for text in texts), np.intp, len(texts))


def batch_cost(rows: int, longest: int) -> float:
    """Return what a batch costs an engine, in tokens: rows times longest, and more where attention is long.

    The work and memory of attention grow with the square of the length.
    """
    return rows * longest * (1 + longest / ATTENTION_EQUALS_LINEAR_AT_TOKENS)


def plan_batches(
    lengths: NDArray[np.int64],
    tokens_per_batch: int,
    batch_size: int | None,
    max_batch_size: int | None = None,
    max_tokens: int | None = None,
    *,
    few_shapes: bool = False,
    run_cost: float | None = None,
) -> Iterator[NDArray[np.intp]]:
    """Yield the positions (intp [rows]) of the texts of each batch, longest texts first.

    ``lengths`` (int64 [n]) counts the tokens of each text. A batch holds at least one text: as many as cost
    ``tokens_per_batch``, or ``batch_size`` where that is given and they cost at most ``MAX_COST_RATIO`` times as much;
    and never more than ``max_batch_size``, or than ``max_tokens`` with their padding. Texts of similar length share a
    batch, so that little of it is padding; the longest come first, so that too large a batch fails at once. Behind many
    batches the remainder is cut to powers of two where the engine wants ``few_shapes``.

    Batches are as large as that allows. With ``run_cost``, in tokens, which a batch costs besides its own, they are
    those that cost least together: smaller where that saves more padding.
    """
    order = np.argsort(-lengths, kind="stable")
    budget = tokens_per_batch * (MAX_COST_RATIO if batch_size else 1)

    def max_rows(longest: int) -> int:
        affordable = max(1, int(budget // batch_cost(1, longest)))
        bounded = affordable if max_tokens is None else max(1, max_tokens // longest)
        return min(affordable, bounded, batch_size or affordable, max_batch_size or affordable)

    if run_cost is not None and batch_size is None:
        for part in _least_cost(np.maximum(lengths[order], 1), run_cost, max_rows):
            yield order[part]
        return
    start = number = 0
    while start < len(order):
        rows = max_rows(max(1, int(lengths[order[start]])))
        left = len(order) - start
        if few_shapes and number >= MANY_BATCHES and left < rows:
            rows = 1 << (left.bit_length() - 1)
        yield order[start : start + rows]
        start += rows
        number += 1


def _least_cost(descending: NDArray[np.int64], run_cost: float, max_rows: Callable[[int], int]) -> Iterator[slice]:
    """Yield the batches, as ranges of the lengths (int64 [n], descending), that cost least together.

    By dynamic programming: the first k texts cost what those before the last batch do, and that batch.
    """
    count = len(descending)
    costs = np.full(count + 1, np.inf)
    costs[0] = 0
    last_starts = np.zeros(count + 1, dtype=np.intp)
    for start, longest in enumerate(descending.tolist()):
        rows = np.arange(1, min(max_rows(longest), count - start) + 1)
        total = costs[start] + run_cost + rows * batch_cost(1, longest)
        ends = slice(start + 1, start + 1 + len(rows))
        is_less = total < costs[ends]
        costs[ends] = np.where(is_less, total, costs[ends])
        last_starts[ends][is_less] = start
    batches = []
    end = count
    while end:
        start = int(last_starts[end])
        batches.append(slice(start, end))
        end = start
    yield from reversed(batches)


def padding_buckets_up_to(longest: int, min_step: int = 1) -> NDArray[np.int64]:
    """Return the lengths that texts of up to ``longest`` tokens are padded to, ascending, int64 [k].

    The last is ``longest``, the others are multiples of ``min_step``, a power of two of at most 32. They are for an
    engine that keeps memory for every shape it has seen.
    """
    start, parts = 0, []
    for finest, end in _BUCKET_STEPS:
        step = max(finest, min_step)
        parts.append(np.arange(start + step, end + 1, step, dtype=np.int64))
        start = end
    buckets = np.concatenate(parts)
    return np.append(buckets[buckets < longest], longest)


def round_up_to_bucket(lengths: NDArray[np.int64], buckets: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return for each length (int64 [n]) the next bucket, itself where it is beyond them or ``buckets`` is None."""
    if buckets is None:
        return lengths
    positions = np.searchsorted(buckets, lengths)
    return np.where(positions < len(buckets), buckets[np.minimum(positions, len(buckets) - 1)], lengths)


@dataclass(frozen=True)
class TokenBatch:
    """The inputs of one run of the graph; ``rows`` (intp [b]) are the positions of its texts.

    ``inputs`` maps the graph's input names to int64 [b, s], padded on the right.
    """

    rows: NDArray[np.intp]
    inputs: dict[str, NDArray[np.int64]]


def pad_batch(
    tokens: TokenizedTexts,
    rows: NDArray[np.intp],
    names: Collection[str],
    pad_id: int,
    buckets: NDArray[np.int64] | None = None,
) -> TokenBatch:
    """Return the texts ``rows`` (intp [b]) as one batch with the inputs ``names``.

    It is as long as its longest text, or the next of ``buckets`` (int64 [k], ascending).
    """
    lengths = tokens.lengths[rows]
    # A batch of texts without any token is still one column wide: engines refuse an axis of length 0.
    width = max(1, int(round_up_to_bucket(lengths.max(initial=0, keepdims=True), buckets)[0]))
    filled = np.arange(width) < lengths[:, np.newaxis]
    # Positions of the batch's tokens within the whole, row by row.
    positions = (tokens.starts[rows][:, np.newaxis] + np.arange(width))[filled]
    inputs = {}
    if "input_ids" in names:
        inputs["input_ids"] = _pad(tokens.ids[positions], filled, pad_id)
    if "attention_mask" in names:
        attention = tokens.attention
        inputs["attention_mask"] = (
            filled.astype(np.int64) if attention is None else _pad(attention[positions], filled, 0)
        )
    if "token_type_ids" in names:
        inputs["token_type_ids"] = _pad(tokens.type_ids[positions], filled, 0)
    if "pooling_mask" in names:
        inputs["pooling_mask"] = (filled & (np.arange(width) >= tokens.prompt_length)).astype(np.int64)
    return TokenBatch(rows, inputs)


def pad_single(
    tokens: TokenizedTexts, names: Collection[str], pad_id: int, buckets: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Return the inputs (int64 [1, s]) that ``pad_batch`` makes of the only text, in a third of the time."""
    length = len(tokens.ids)
    width = max(1, length)
    if buckets is not None and (place := int(buckets.searchsorted(width))) < len(buckets):
        width = int(buckets[place])

    def pad(values: NDArray[np.int64] | int, padding: int = 0) -> NDArray[np.int64]:
        row = np.full((1, width), padding, dtype=np.int64)
        row[0, :length] = values
        return row

    inputs = {}
    if "input_ids" in names:
        inputs["input_ids"] = pad(tokens.ids, pad_id)
    if "attention_mask" in names:
        inputs["attention_mask"] = pad(1 if tokens.attention is None else tokens.attention)
    if "token_type_ids" in names:
        inputs["token_type_ids"] = pad(tokens.type_ids)
    if "pooling_mask" in names:
        inputs["pooling_mask"] = pad(1)
        inputs["pooling_mask"][0, : tokens.prompt_length] = 0
    return inputs


def _pad(values: NDArray[np.int64], filled: NDArray[np.bool_], padding: int) -> NDArray[np.int64]:
    result = np.full(filled.shape, padding, dtype=np.int64)
    result[filled] = values
    return result
