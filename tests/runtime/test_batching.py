"""Texts to batches: each exactly once, within the maximum cost, padded right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph.batching import (
    MANY_BATCHES,
    MAX_COST_RATIO,
    batch_cost,
    pad_batch,
    pad_single,
    plan_batches,
    split_into_windows,
)
from monograph.tokenization import TokenizedTexts

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def random_lengths(seed: int, longest: int = 600) -> NDArray[np.int64]:
    """Return lengths of 0 to 200 texts, many of them short and some without a token."""
    random = np.random.default_rng(seed)
    count = int(random.integers(0, 200))
    return (random.integers(0, longest, count) * random.random(count) ** 3).astype(np.int64)


def tokens_of(*texts: list[int]) -> TokenizedTexts:
    """Return texts of these token ids; the type id of a token is its last decimal digit."""
    ids = np.array([token for text in texts for token in text], dtype=np.int64)
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return TokenizedTexts(ids, ids % 10, starts)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_a_plan_holds_each_text_once_and_the_longest_first(seed: int, batch_size: int | None) -> None:
    lengths = random_lengths(seed)
    plan = list(plan_batches(lengths, 512, batch_size))
    order = np.concatenate([np.empty(0, dtype=np.intp), *plan])
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    assert all(len(rows) > 0 for rows in plan)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", [1, 100, 512, 4096])
def test_a_batch_of_more_than_one_text_costs_no_more_than_the_budget(seed: int, budget: int) -> None:
    lengths = random_lengths(seed)
    plan = list(plan_batches(lengths, budget, None))
    # A text without a token still takes a column.
    padding_buckets = [max(1, int(lengths[rows].max())) for rows in plan]
    for rows, width in zip(plan, padding_buckets, strict=True):
        assert len(rows) == 1 or batch_cost(len(rows), width) <= budget
    for rows, width in zip(plan[:-1], padding_buckets, strict=False):
        assert batch_cost(len(rows) + 1, width) > budget, "one more text would have fitted"


def total_cost(lengths: NDArray[np.int64], plan: Iterable[NDArray[np.intp]], run_cost: float) -> float:
    """Return what batches cost together, each with what a run costs besides its tokens."""
    return sum(run_cost + batch_cost(len(rows), max(1, int(lengths[rows].max()))) for rows in plan)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("run_cost", "max_batch_size", "max_tokens"), [(0, None, None), (24, 5, None), (24, None, 90)])
def test_with_the_cost_of_a_run_batches_cost_least_together(
    seed: int, run_cost: float, max_batch_size: int | None, max_tokens: int | None
) -> None:
    lengths = random_lengths(seed, 60)
    limits = (512, None, max_batch_size, max_tokens)
    plan = list(plan_batches(lengths, *limits, run_cost=run_cost))
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for rows in plan:
        width = max(1, int(lengths[rows].max()))
        assert len(rows) == 1 or batch_cost(len(rows), width) <= 512
        assert len(rows) <= (max_batch_size or len(rows))
        assert len(rows) == 1 or len(rows) * width <= (max_tokens or 512)
    assert total_cost(lengths, plan, run_cost) <= total_cost(lengths, plan_batches(lengths, *limits), run_cost)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_division_of_a_few_texts_costs_less(seed: int) -> None:
    lengths = np.sort(np.random.default_rng(seed).integers(0, 40, 9))[::-1].astype(np.int64)
    costs = []
    for cuts in itertools.product((False, True), repeat=len(lengths) - 1):
        ends = [place + 1 for place, cut in enumerate(cuts) if cut]
        parts = np.split(np.arange(len(lengths)), ends)
        if all(len(rows) == 1 or batch_cost(len(rows), int(lengths[rows].max())) <= 128 for rows in parts):
            costs.append(total_cost(lengths, parts, 24))
    assert total_cost(lengths, plan_batches(lengths, 128, None, run_cost=24), 24) == pytest.approx(min(costs))


def test_a_callers_batch_size_is_respected_whatever_a_run_costs() -> None:
    lengths = random_lengths(1)
    sizes = [len(rows) for rows in plan_batches(lengths, 1 << 20, 7, run_cost=24)]
    assert set(sizes[:-1]) == {7}


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_a_batch_size_is_respected_up_to_several_times_the_budget(batch_size: int) -> None:
    lengths = random_lengths(1)
    budget = math.ceil(batch_cost(batch_size, int(lengths.max())) / MAX_COST_RATIO)
    sizes = [len(rows) for rows in plan_batches(lengths, budget, batch_size)]
    assert set(sizes[:-1]) <= {batch_size}
    assert 1 <= sizes[-1] <= batch_size


@pytest.mark.parametrize("batch_size", [None, 1, 7])
@pytest.mark.parametrize("max_batch_size", [1, 3])
def test_a_batch_never_has_more_than_the_graph_allows(batch_size: int | None, max_batch_size: int) -> None:
    lengths = random_lengths(1)
    plan = list(plan_batches(lengths, 4096, batch_size, max_batch_size))
    assert max(map(len, plan)) == min(batch_size or max_batch_size, max_batch_size)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_tokens_of_a_batch_are_bounded_and_a_longer_text_is_alone(batch_size: int | None) -> None:
    lengths = random_lengths(1)
    max_tokens = int(np.median(lengths))
    plan = list(plan_batches(lengths, 4096, batch_size, None, max_tokens))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= max_tokens for rows in plan)
    assert any(lengths[rows].max() > max_tokens for rows in plan)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))


def test_texts_of_one_length_keep_their_order() -> None:
    lengths = np.array([5, 9, 5, 9, 5], dtype=np.int64)
    plan = plan_batches(lengths, 512, 2)
    assert [rows.tolist() for rows in plan] == [[1, 3], [0, 2], [4]]


def test_no_texts_need_no_batch() -> None:
    assert list(plan_batches(np.empty(0, dtype=np.int64), 512, None)) == []


@pytest.mark.parametrize("last", [1, 5, 37, 60])
def test_behind_many_batches_the_last_ones_have_few_shapes(last: int) -> None:
    lengths = np.concatenate((np.full(64 * MANY_BATCHES, 64), np.full(last, 8))).astype(np.int64)
    plan = list(plan_batches(lengths, 4608, None, few_shapes=True))
    rows = [len(batch) for batch in plan]
    assert rows[:MANY_BATCHES] == [64] * MANY_BATCHES
    assert rows[MANY_BATCHES:] == [1 << n for n in reversed(range(7)) if last & (1 << n)]
    assert sorted(np.concatenate(plan)) == list(range(len(lengths)))
    few = list(plan_batches(lengths[-64:], 4608, None, few_shapes=True))
    assert len(few) == len(list(plan_batches(lengths[-64:], 4608, None)))


def test_a_token_costs_more_the_longer_its_text_is() -> None:
    costs = [batch_cost(1, longest) / longest for longest in (1, 64, 512, 4096)]
    assert costs == sorted(costs)
    assert batch_cost(6, 100) == pytest.approx(6 * batch_cost(1, 100))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_windows_hold_the_texts_in_order_and_within_the_number(count: int) -> None:
    texts = [f"text {number}" for number in range(count)]
    windows = list(split_into_windows(iter(texts), max_texts=4))
    assert list(itertools.chain(*windows)) == texts
    assert all(len(window) == 4 for window in windows[:-1])
    assert all(1 <= len(window) <= 4 for window in windows)


def test_windows_stay_within_the_characters_but_for_one_text_alone() -> None:
    texts = ["aaaa", "bb", "c" * 25, "", "ddd", "eeeeeeeee", "f", "g" * 10, "h"]
    windows = list(split_into_windows(texts, max_texts=100, max_characters=10))
    assert windows == [["aaaa", "bb"], ["c" * 25], ["", "ddd"], ["eeeeeeeee", "f"], ["g" * 10], ["h"]]


def test_a_full_window_comes_before_the_next_text_is_pulled() -> None:
    source = iter(map(str, range(100)))
    cut = split_into_windows(source, max_texts=4)
    assert next(cut) == ["0", "1", "2", "3"]
    assert next(source) == "4"


def test_a_batch_is_padded_on_the_right() -> None:
    tokens = tokens_of([11, 12, 13], [], [21], [31, 32])
    batch = pad_batch(tokens, np.array([3, 0, 1], dtype=np.intp), NAMES, pad_id=99)
    assert batch.rows.tolist() == [3, 0, 1]
    assert batch.inputs["input_ids"].tolist() == [[31, 32, 99], [11, 12, 13], [99, 99, 99]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert batch.inputs["token_type_ids"].tolist() == [[1, 2, 0], [1, 2, 3], [0, 0, 0]]
    assert all(values.dtype == np.int64 for values in batch.inputs.values())


@pytest.mark.parametrize("names", [NAMES, NAMES[:2], NAMES[:1], NAMES[::-1]])
def test_a_batch_has_the_requested_inputs(names: tuple[str, ...]) -> None:
    batch = pad_batch(tokens_of([1, 2]), np.array([0], dtype=np.intp), names, pad_id=0)
    assert set(batch.inputs) == set(names)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_of_texts_without_tokens_is_one_column_wide(rows: int) -> None:
    batch = pad_batch(tokens_of([], [], []), np.arange(rows, dtype=np.intp), NAMES, pad_id=7)
    assert batch.inputs["input_ids"].tolist() == [[7]] * rows
    assert batch.inputs["attention_mask"].tolist() == [[0]] * rows
    assert batch.inputs["token_type_ids"].tolist() == [[0]] * rows


@pytest.mark.parametrize("seed", range(4))
def test_the_unpadded_part_of_every_row_is_its_text(seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = [random.integers(100, 200, length).tolist() for length in random_lengths(seed, longest=40)]
    tokens = tokens_of(*texts)
    for rows in plan_batches(tokens.lengths, 200, None):
        batch = pad_batch(tokens, rows, NAMES, pad_id=0)
        for row, ids, mask in zip(rows, batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True):
            assert ids[mask == 1].tolist() == texts[row]
            assert not ids[mask == 0].any()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40])
@pytest.mark.parametrize("padding_buckets", [None, np.array([2, 8, 16, 32], dtype=np.int64)])
@pytest.mark.parametrize("prompt_length", [0, 3])
def test_one_text_is_assembled_as_a_batch_of_one(
    length: int, padding_buckets: NDArray[np.int64] | None, prompt_length: int
) -> None:
    ids = np.arange(5, 5 + length, dtype=np.int64)
    tokens = TokenizedTexts(ids, ids % 2, np.array([0, length], dtype=np.int64), prompt_length)
    names = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
    expected = pad_batch(tokens, np.array([0]), names, 3, padding_buckets).inputs
    inputs = pad_single(tokens, names, 3, padding_buckets)
    assert inputs.keys() == expected.keys()
    for name in names:
        np.testing.assert_array_equal(inputs[name], expected[name], strict=True)
