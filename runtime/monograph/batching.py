"""Token ids to padded batches of bounded cost: which texts share a batch, how long it is padded, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import InputT, characters
from monograph.tokenization import TokenizedTexts

# Large enough that sorting by length leaves little padding, small enough that an interrupt costs little work: a
# window is what `monograph embed` writes and resumes by. At 20 texts/s, as a large model has them on two cores, 2,048
# texts are 100 s and 8,192 were 7 minutes; the price is 2 % of padding (docs/performance.md).
WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 500_000


def windows(
    texts: Iterable[InputT], max_texts: int = WINDOW_TEXTS, max_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[InputT]]:
    """Yield texts, or pairs, in order as lists of bounded number and size; one may alone exceed the size."""
    window: list[InputT] = []
    size = 0
    for text in texts:
        length = characters(text)
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


# The price of a batch is what it costs the engine: padded tokens, and for long texts attention, whose work
# and memory grow with the square of the length. At this length attention doubles the price of a token.
ATTENTION_EQUALS_LINEAR_AT_TOKENS = 512
# Times its best price that a batch of a caller's own size may cost: larger ones are slower (docs/performance.md), and
# hold so much more memory.
MAX_COST_RATIO = 8
# Behind so many, two or three small batches more are nothing. The rows of a last batch are of any number: of 104 shapes
# that 200,000 texts came in, 58 were its.
MANY_BATCHES = 16


def batch_cost(rows: int, longest: int) -> float:
    """Return the price of a batch in tokens: rows times longest, and more where attention is long."""
    return rows * longest * (1 + longest / ATTENTION_EQUALS_LINEAR_AT_TOKENS)


def plan_batches(
    lengths: NDArray[np.int64],
    tokens_per_batch: int,
    batch_size: int | None,
    max_batch_size: int | None = None,
    max_tokens: int | None = None,
    *,
    few_shapes: bool = False,
) -> Iterator[NDArray[np.intp]]:
    """Yield the positions (intp [rows]) of the texts of each batch, longest texts first.

    ``lengths`` (int64 [n]) counts the tokens of each text. A batch holds at least one text: as many as
    ``tokens_per_batch`` pays for, or ``batch_size`` where that is given and ``MAX_COST_RATIO`` as much pays for
    them; and never more than ``max_batch_size``, or than fit into ``max_tokens`` with their padding. Texts of like length
    share a batch, so that little of it is padding; the longest come first, so that too large a batch fails at once.
    Behind many batches what is left for the last is cut to powers of two where the engine wants ``few_shapes``.
    """
    order = np.argsort(-lengths, kind="stable")
    start = number = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        paid = max(1, int(tokens_per_batch * (MAX_COST_RATIO if batch_size else 1) // batch_cost(1, longest)))
        fitting = paid if max_tokens is None else max(1, max_tokens // longest)
        rows = min(paid, fitting, batch_size or paid, max_batch_size or paid)
        left = len(order) - start
        if few_shapes and number >= MANY_BATCHES and left < rows:
            rows = 1 << (left.bit_length() - 1)
        yield order[start : start + rows]
        start += rows
        number += 1


# (step, up to): fine where texts are short and a few tokens are much of them, coarse where they are not.
STEPS = ((2, 32), (4, 64), (8, 256), (32, 2048), (256, 1 << 16))


def padding_buckets_up_to(longest: int, min_step: int = 1) -> NDArray[np.int64]:
    """Return the widths for texts of up to ``longest`` tokens, ascending, int64 [k]; the last is ``longest``.

    The others are multiples of ``min_step``, a power of two of at most 32.
    """
    start, parts = 0, []
    for finest, end in STEPS:
        step = max(finest, min_step)
        parts.append(np.arange(start + step, end + 1, step, dtype=np.int64))
        start = end
    padding_buckets = np.concatenate(parts)
    return np.append(padding_buckets[padding_buckets < longest], longest)


def round_up_to_bucket(lengths: NDArray[np.int64], padding_buckets: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return for each length (int64 [n]) the next width, itself where it is beyond them or ``widths`` is None."""
    if padding_buckets is None:
        return lengths
    positions = np.searchsorted(padding_buckets, lengths)
    return np.where(
        positions < len(padding_buckets), padding_buckets[np.minimum(positions, len(padding_buckets) - 1)], lengths
    )


@dataclass(frozen=True)
class TokenBatch:
    """The inputs of one run of the graph; ``rows`` (intp [b]) tells which text each row is.

    ``inputs`` maps the graph's input names to int64 [b, s], padded on the right.
    """

    rows: NDArray[np.intp]
    inputs: dict[str, NDArray[np.int64]]


def pad_batch(
    tokens: TokenizedTexts,
    rows: NDArray[np.intp],
    names: Collection[str],
    pad_id: int,
    padding_buckets: NDArray[np.int64] | None = None,
) -> TokenBatch:
    """Return the texts ``rows`` (intp [b]) as one batch with the inputs ``names``.

    It is as wide as its longest text, or the next of ``widths`` (int64 [k], ascending).
    """
    lengths = tokens.lengths[rows]
    # A batch of texts without any token is still one column wide: engines refuse an axis of length 0.
    width = max(1, int(round_up_to_bucket(lengths.max(initial=0, keepdims=True), padding_buckets)[0]))
    filled = np.arange(width) < lengths[:, np.newaxis]
    # Positions of the batch's tokens within the whole, row by row.
    taken = (tokens.starts[rows][:, np.newaxis] + np.arange(width))[filled]
    inputs = {}
    if "input_ids" in names:
        inputs["input_ids"] = _padded(tokens.ids[taken], filled, pad_id)
    if "attention_mask" in names:
        inputs["attention_mask"] = filled.astype(np.int64)
    if "token_type_ids" in names:
        inputs["token_type_ids"] = _padded(tokens.type_ids[taken], filled, 0)
    if "pooling_mask" in names:
        inputs["pooling_mask"] = (filled & (np.arange(width) >= tokens.prompt_length)).astype(np.int64)
    return TokenBatch(rows, inputs)


def pad_single(
    tokens: TokenizedTexts, names: Collection[str], pad_id: int, padding_buckets: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Return the inputs (int64 [1, s]) that ``pad_batch`` makes of the only text, in a third of the time."""
    length = len(tokens.ids)
    width = max(1, length)
    if padding_buckets is not None and (place := int(padding_buckets.searchsorted(width))) < len(padding_buckets):
        width = int(padding_buckets[place])

    def padded(values: NDArray[np.int64] | int, padding: int = 0) -> NDArray[np.int64]:
        row = np.full((1, width), padding, dtype=np.int64)
        row[0, :length] = values
        return row

    inputs = {}
    if "input_ids" in names:
        inputs["input_ids"] = padded(tokens.ids, pad_id)
    if "attention_mask" in names:
        inputs["attention_mask"] = padded(1)
    if "token_type_ids" in names:
        inputs["token_type_ids"] = padded(tokens.type_ids)
    if "pooling_mask" in names:
        inputs["pooling_mask"] = padded(1)
        inputs["pooling_mask"][0, : tokens.prompt_length] = 0
    return inputs


def _padded(values: NDArray[np.int64], filled: NDArray[np.bool_], padding: int) -> NDArray[np.int64]:
    result = np.full(filled.shape, padding, dtype=np.int64)
    result[filled] = values
    return result
