"""Calls that wait for the engine go through it together, and each has its own outputs or its own error."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.errors import MonographError
from monograph.inference import scheduler
from monograph.inference.pipeline import BatchRunner, Pipeline
from monograph.inference.scheduler import Scheduler, _Call
from monograph.tokenization import TokenizedTexts

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}
_BAD = 13


def tokens_of(*texts: list[int], prompt_length: int = 0) -> TokenizedTexts:
    ids = np.array([token for text in texts for token in text], dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum([len(text) for text in texts], dtype=np.int64)))
    return TokenizedTexts(ids, np.zeros_like(ids), starts, prompt_length)


def sums(tokens: TokenizedTexts) -> NDArray[np.float32]:
    """Return the sum of each text's ids and the tokens not pooled, float32 [n, 2]."""
    if (tokens.ids == _BAD).any():
        raise MonographError("a bad token")
    rows = [[text.sum(), tokens.prompt_length] for text in np.split(tokens.ids, tokens.starts[1:-1])]
    return np.array(rows, dtype=np.float32)


class Gate:
    """Computes sums once it is opened, and notes the number of texts of each batch."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.started = threading.Event()
        self.batches: list[int] = []

    def __call__(self, tokens: TokenizedTexts) -> NDArray[np.float32]:
        self.batches.append(len(tokens.lengths))
        self.started.set()
        assert self.opened.wait(60)
        return sums(tokens)


def calls_behind_one(batcher: Scheduler, gate: Gate, calls: list[TokenizedTexts]) -> list[Future[NDArray[np.float32]]]:
    """Start a call of one text, then the others, each when the one before it waits; open the gate."""
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        futures = [pool.submit(batcher.run, tokens_of([1]))]
        assert gate.started.wait(60)
        for number, call in enumerate(calls, 1):
            futures.append(pool.submit(batcher.run, call))
            until(partial(_waiting, batcher, number))
        gate.opened.set()
        return futures


def _waiting(batcher: Scheduler, number: int) -> bool:
    return len(batcher._waiting) == number


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_calls_that_wait_are_one_batch_and_each_has_its_own_outputs() -> None:
    gate = Gate()
    batcher = Scheduler(gate, 1, 1000, 1000)
    calls = [tokens_of([2, 3]), tokens_of([4], [], [5, 6]), tokens_of([7])]
    first, *others = [future.result() for future in calls_behind_one(batcher, gate, calls)]
    assert gate.batches == [1, 5]
    assert first.tolist() == [[1, 0]]
    assert [outputs.tolist() for outputs in others] == [[[5, 0]], [[4, 0], [0, 0], [11, 0]], [[7, 0]]]
    assert all(outputs.base is None for outputs in others)
    assert not batcher._running


def test_a_call_that_finds_the_engine_free_is_computed_alone_and_at_once() -> None:
    gate = Gate()
    gate.opened.set()
    batcher = Scheduler(gate, 1, 1000, 1000)
    for _ in range(3):
        assert batcher.run(tokens_of([1, 2])).tolist() == [[3, 0]]
    assert gate.batches == [1, 1, 1]


def test_an_engine_may_have_several_slots() -> None:
    both = threading.Barrier(2)

    def compute(tokens: TokenizedTexts) -> NDArray[np.float32]:
        both.wait(60)
        return sums(tokens)

    # Bounded batches: each of the four needs a slot of its own, and the two slots are taken side by side.
    batcher = Scheduler(compute, 2, 1, 1)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(batcher.run, [tokens_of([n]) for n in range(4)])
        assert [outputs[0, 0] for outputs in results] == [0, 1, 2, 3]
    assert not batcher._running


@pytest.mark.parametrize(("max_cost", "max_texts"), [(16, 100), (1000, 3)])
def test_a_joint_batch_has_bounds(max_cost: int, max_texts: int) -> None:
    gate = Gate()
    batcher = Scheduler(gate, 1, max_cost, max_texts)
    # A text of four tokens costs a little more than 4.
    futures = calls_behind_one(batcher, gate, [tokens_of([n, n, n, n]) for n in range(7)])
    assert [future.result()[0, 0] for future in futures] == [1, 0, 4, 8, 12, 16, 20, 24]
    assert gate.batches == [1, 3, 3, 1]


def test_what_is_few_has_bounds() -> None:
    batcher = Scheduler(sums, 1, 20, 3)
    assert batcher.accepts(tokens_of([1] * 4, [1] * 4))
    assert not batcher.accepts(tokens_of([1] * 10, [1] * 10))
    assert not batcher.accepts(tokens_of([1], [1], [1], [1]))
    # One text is always accepted, and computed alone where it is long.
    assert batcher.accepts(tokens_of([1] * 30))


def test_texts_behind_different_prompts_are_not_joined() -> None:
    gate = Gate()
    calls = [tokens_of([2], prompt_length=1), tokens_of([3], prompt_length=1), tokens_of([4])]
    futures = calls_behind_one(Scheduler(gate, 1, 1000, 1000), gate, calls)
    assert [future.result().tolist() for future in futures] == [[[1, 0]], [[2, 1]], [[3, 1]], [[4, 0]]]
    assert gate.batches == [1, 2, 1]


def test_only_the_call_that_fails_has_the_error() -> None:
    gate = Gate()
    batcher = Scheduler(gate, 1, 1000, 1000)
    calls = [tokens_of([2]), tokens_of([_BAD]), tokens_of([4]), tokens_of([5])]
    futures = calls_behind_one(batcher, gate, calls)
    with pytest.raises(MonographError, match="a bad token"):
        futures[2].result()
    assert [futures[i].result()[0, 0] for i in (0, 1, 3, 4)] == [1, 2, 4, 5]
    assert gate.batches == [1, 4, 1, 1, 1, 1]
    assert not batcher._running


class Interrupted(_Call):
    """A call whose wait ends as a Ctrl-C ends it: at once, or when an event is set."""

    def __init__(self, after: threading.Event | None, tokens: TokenizedTexts) -> None:
        super().__init__(tokens)
        self._after = after

    def wait(self) -> None:
        if self._after is not None:
            assert self._after.wait(60)
        raise KeyboardInterrupt


def interrupted(
    pool: ThreadPoolExecutor, batcher: Scheduler, tokens: TokenizedTexts, after: threading.Event | None
) -> Future[NDArray[np.float32]]:
    """Start a call that has to wait and is interrupted, and return when it waits, or was interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "_Call", partial(Interrupted, after))
        waiting = len(batcher._waiting)
        future = pool.submit(batcher.run, tokens)
        until(lambda: future.done() or len(batcher._waiting) > waiting)
    return future


@pytest.mark.parametrize("woken", [False, True])
def test_an_interrupted_call_keeps_nobody_waiting(woken: bool) -> None:
    gate = Gate()
    batcher = Scheduler(gate, 1, 1000, 1000)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.run, tokens_of([1]))
        assert gate.started.wait(60)
        wake = threading.Event() if woken else None
        second = interrupted(pool, batcher, tokens_of([2]), wake)
        last = pool.submit(batcher.run, tokens_of([3]))
        until(partial(_waiting, batcher, 2 if woken else 1))
        gate.opened.set()
        assert first.result()[0, 0] == 1
        if wake is not None:
            until(lambda: not batcher._waiting[0]._nothing.locked())
            wake.set()
        assert last.result()[0, 0] == 3
    with pytest.raises(KeyboardInterrupt):
        second.result()
    assert not batcher._running
    assert not batcher._waiting


def test_an_interrupt_while_others_are_computed_too_leaves_them_to_themselves() -> None:
    gate = Gate()

    def interrupted_once(tokens: TokenizedTexts) -> NDArray[np.float32]:
        outputs = gate(tokens)
        if gate.batches == [1, 3]:
            raise KeyboardInterrupt
        return outputs

    batcher = Scheduler(interrupted_once, 1, 1000, 1000)
    futures = calls_behind_one(batcher, gate, [tokens_of([2]), tokens_of([3]), tokens_of([4])])
    with pytest.raises(KeyboardInterrupt):
        futures[1].result()
    assert [futures[i].result()[0, 0] for i in (0, 2, 3)] == [1, 3, 4]
    assert gate.batches == [1, 3, 1, 1]


def test_a_call_that_is_interrupted_in_a_batch_that_fails_gets_no_slot() -> None:
    gate = Gate()
    joint = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        calls: list[Future[NDArray[np.float32]]] = []

        def compute(tokens: TokenizedTexts) -> NDArray[np.float32]:
            if len(tokens.lengths) == 2:
                joint.set()
                until(calls[2].done)
            return gate(tokens)

        batcher = Scheduler(compute, 1, 1000, 1000)
        calls.append(pool.submit(batcher.run, tokens_of([1])))
        assert gate.started.wait(60)
        calls.append(pool.submit(batcher.run, tokens_of([2])))
        until(partial(_waiting, batcher, 1))
        calls.append(interrupted(pool, batcher, tokens_of([_BAD]), joint))
        gate.opened.set()
        assert [calls[i].result()[0, 0] for i in (0, 1)] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        calls[2].result()
    assert gate.batches == [1, 2, 1]
    assert not batcher._running
    assert not batcher._waiting


class InterruptedLock:
    """A lock at whose n-th step, taking or releasing it, one thread is interrupted."""

    def __init__(self, step: int) -> None:
        self.lock = threading.Lock()
        self.left = step
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        self.step()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self.step()

    def step(self) -> None:
        if threading.get_ident() == self.thread:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("step", range(1, 5))
def test_an_interrupt_at_any_step_releases_the_slot(step: int) -> None:
    batcher = Scheduler(sums, 1, 1000, 1000)
    batcher._lock = InterruptedLock(step)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        batcher.run(tokens_of([1]))
    assert not batcher._running
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(batcher.run, tokens_of([2])).result(60)[0, 0] == 2


def test_a_slot_that_two_interrupts_left_taken_is_released_by_its_thread() -> None:
    batcher = Scheduler(sums, 1, 1000, 1000)
    batcher._running[threading.get_ident()] = []
    assert batcher.run(tokens_of([1]))[0, 0] == 1
    assert not batcher._running


@pytest.mark.parametrize("step", range(1, 11))
def test_an_interrupt_at_any_step_of_a_joint_batch_leaves_no_caller_behind(step: int) -> None:
    """Another thread has the slot, this one and a third wait; this one computes for both unless it is interrupted."""
    gate = Gate()
    batcher = Scheduler(gate, 1, 1000, 1000)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.run, tokens_of([1]))
        assert gate.started.wait(60)
        lock = InterruptedLock(step)
        own = threading.Event()

        def other() -> NDArray[np.float32]:
            # Behind the interrupted one where that gets so far.
            until(lambda: len(batcher._waiting) == 1 or own.is_set())
            threading.Timer(0.05, gate.opened.set).start()
            return batcher.run(tokens_of([3]))

        third = pool.submit(other)
        batcher._lock = lock  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            batcher.run(tokens_of([2]))
        own.set()
        assert first.result(60)[0, 0] == 1
        assert third.result(60)[0, 0] == 3
    assert not batcher._running
    assert not batcher._waiting


def rows_of_slowed_runs(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the engine's runs last longer, and return a list that each adds its number of rows to."""
    engine = model._open.routes.main.engine
    run, rows = engine.run, []

    def slow(inputs: dict[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        rows.append(len(inputs["input_ids"]))
        time.sleep(0.01)
        return run(inputs, output)

    monkeypatch.setattr(engine, "run", slow)
    return rows


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_texts_of_many_callers_go_through_the_engine_together(
    tiny_bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"caller {number} " * (1 + number % 5) for number in range(24)]
    with Embedder(tiny_bundle, device, threads=2) as model:
        expected = model.encode(texts, batch_size=24)
        rows = rows_of_slowed_runs(model, monkeypatch)
        with ThreadPoolExecutor(12) as pool:
            for _ in range(3):
                vectors = np.stack(list(pool.map(model.encode, texts)))
                assert np.abs(vectors - expected).max() <= TOLERANCE[model.compute_dtype]
        assert sum(rows) == 72
        assert max(rows) > 1
        with ThreadPoolExecutor(12) as pool:
            pairs = np.stack(list(pool.map(lambda text: model.encode([text, "and another"]), texts)))
        right = np.stack([expected, np.repeat(model.encode(["and another"]), 24, axis=0)], axis=1)
        assert np.abs(pairs - right).max() <= TOLERANCE[model.compute_dtype]


def test_a_batch_size_is_the_callers_own(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Embedder(tiny_bundle, "cpu") as model:
        rows = rows_of_slowed_runs(model, monkeypatch)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: model.encode([f"text {n}", f"and {n}"], batch_size=1), range(8)))
            list(pool.map(lambda n: model.encode(f"text {n}", batch_size=1), range(16)))
        assert rows == [1] * 32


def test_texts_of_a_graph_of_one_row_are_not_joined(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, "cpu") as model:
        pipeline = model._open.routes.main
        graph = replace(pipeline.engine.graph, max_batch_size=1)
        pipeline.engine.graph = graph
        specification, width = model.manifest.tokenizer, model.manifest.output_width
        single = Pipeline(pipeline.tokenizer, specification, BatchRunner(pipeline.engine, specification, width, None))
        assert single._scheduler.accepts(single.tokenize(["a text"]))
        assert not single._scheduler.accepts(single.tokenize(["a text", "and another"]))


def test_a_model_that_is_dropped_is_freed_at_once(tiny_bundle: Path) -> None:
    model = Embedder(tiny_bundle, "cpu")
    model.encode("a text")
    engine = weakref.ref(model._open.routes.main.engine)
    gc.disable()
    try:
        del model
        assert engine() is None
    finally:
        gc.enable()
