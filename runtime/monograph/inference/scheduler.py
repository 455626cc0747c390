"""Concurrent calls of few texts are batched: those that wait for a busy engine are computed together when it is free.

A single text fills all threads, so that the texts of several callers only take turns; eight short ones in a batch take
OpenVINO half the time that they take one by one (docs/performance.md). Nobody waits for company: a call that finds the
engine free runs at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import batch_cost
from monograph.errors import MonographError
from monograph.tokenization import TokenizedTexts, join_texts

# Float32 [n, d], or objects [n] where a text has a matrix (monograph.inference.token_vectors).
_Outputs = NDArray[Any]
_Run = Callable[[TokenizedTexts], _Outputs]


class Scheduler:
    """Batches the texts of concurrent callers, with up to ``max_concurrency`` joint batches at a time.

    ``run`` returns the outputs of any texts in their order.

    Calls are joined that together cost no more than ``max_cost`` (in tokens, as ``batch_cost`` counts) and have no more
    than ``max_texts``. A call of a single text may cost more, and then runs alone.
    """

    def __init__(self, run: _Run, max_concurrency: int, max_cost: float, max_texts: int) -> None:
        self._compute = run
        self._max_cost = max_cost
        self._max_texts = max_texts
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._max_concurrency = max_concurrency
        # The threads that hold a slot, each with the calls of its joint batch. Nothing else records that a slot is
        # taken: an interrupt may come between any two steps, and an interrupted thread releases what it has here.
        self._running: dict[int, list[_Call]] = {}
        self._waiting: deque[_Call] = deque()

    def accepts(self, tokens: TokenizedTexts) -> bool:
        """Return whether this is one text, or texts few enough to be computed in one batch."""
        if len(tokens.starts) == 2:
            return True
        # No cost is below the number of tokens, which is known at once.
        few = len(tokens.ids) <= self._max_cost and len(tokens.lengths) <= self._max_texts
        return few and _total_cost(tokens) <= self._max_cost

    def run(self, tokens: TokenizedTexts) -> _Outputs:
        """Return the output of each text, float32 [n, d], the caller's own; raise what ``run`` raises for them."""
        if self._process != os.getpid():
            # A fork may have copied the lock as another thread held it. The engine has the error for this.
            return self._compute(tokens)
        thread = threading.get_ident()
        try:
            # A caller alone takes this shortcut: after a run the CPU's caches hold weights, and Python code is slow.
            with self._lock:
                if thread in self._running:
                    # It was interrupted twice, the second time while it released its slot.
                    self._release(thread)
                at_once = not self._waiting and self._has_capacity()
                if at_once:
                    self._running[thread] = []
            if at_once:
                return self._compute(tokens)
        finally:
            try:
                self._end(thread)
            except BaseException:
                # An interrupt, maybe at the entry of that function: so this stands here and below and not in it.
                self._end(thread)
                raise
        return self._run_with_others(_Call(tokens), thread)

    def _run_with_others(self, call: _Call, thread: int) -> _Outputs:
        try:
            with self._lock:
                self._waiting.append(call)
            while True:
                with self._lock:
                    if call.outputs is not None:
                        return call.outputs
                    call.prepare_to_wait()
                    batch = self._begin_batch(thread, call)
                if batch:
                    # Whoever comes first computes for all that wait: to wake another takes longer.
                    self._run_batch(batch, thread, call)
                else:
                    call.wait()
        finally:
            # Where the caller has what it came for, or was interrupted.
            call.left = True
            try:
                self._end(thread)
            except BaseException:
                self._end(thread)
                raise

    def _has_capacity(self) -> bool:
        return len(self._running) < self._max_concurrency

    def _begin_batch(self, thread: int, own_call: _Call) -> list[_Call]:
        """Take a slot and the calls of one batch from those that wait; return none where there is no such.

        A call that is to be computed alone is left to its own thread.
        """
        possible = [call for call in self._waiting if call is own_call or not call.alone]
        if not self._has_capacity() or not possible:
            return []
        first = possible[0]
        batch, cost, texts = [first], first.cost, first.texts
        for following in islice(possible, 1, None):
            cost += following.cost
            texts += following.texts
            alike = following.tokens.prompt_length == first.tokens.prompt_length
            if not alike or first.alone or following.alone or cost > self._max_cost or texts > self._max_texts:
                break
            batch.append(following)
        self._running[thread] = batch
        for call in batch:
            self._waiting.remove(call)
        # There may be another slot for those that are left.
        self._wake_first()
        return batch

    def _run_batch(self, batch: list[_Call], thread: int, own_call: _Call) -> None:
        """Compute a batch, give each of its calls its outputs, and release the slot.

        An exception that is no error of ours was raised by a signal handler of this thread: it is not passed on to
        other callers.
        """
        try:
            outputs = self._compute(join_texts([call.tokens for call in batch]))
            ends = np.cumsum([call.texts for call in batch])
            for call, part in zip(batch, np.split(outputs, ends[:-1]), strict=True):
                # Not a view, which would keep the others' alive.
                call.outputs = part.copy() if len(batch) > 1 else outputs
        except MonographError:
            # Whose text it was is not known: each is computed by itself, in its own thread, which gets the error.
            if batch == [own_call]:
                raise
        finally:
            self._end(thread)

    def _end(self, thread: int) -> None:
        """Release a thread's slot, if it has one, and forget the calls whose callers no longer wait."""
        if self._process != os.getpid():
            # Forked by a signal handler: another thread may hold the copied lock.
            return
        with self._lock:
            self._release(thread)

    def _release(self, thread: int) -> None:
        for call in reversed(self._running.get(thread, ())):
            if call.outputs is None and call not in self._waiting:
                call.alone = True
                self._waiting.appendleft(call)
            call.wake()
        self._running.pop(thread, None)
        if self._waiting:
            self._waiting = deque(call for call in self._waiting if not call.left)
            self._wake_first()

    def _wake_first(self) -> None:
        if self._waiting and self._has_capacity():
            self._waiting[0].wake()


class _Call:
    """A call until it has its ``outputs``; it is woken when it does, or may take a slot.

    ``alone``: the batch it was in failed or was interrupted, and its own thread computes it by itself. ``left``: its
    caller no longer waits. Only ``wait`` is called without the scheduler's lock.
    """

    def __init__(self, tokens: TokenizedTexts) -> None:
        self.tokens = tokens
        self.cost = _total_cost(tokens)
        self.texts = len(tokens.lengths)
        self.outputs: _Outputs | None = None
        self.alone = False
        self.left = False
        # Held while there is nothing to do. An Event has a lock inside, which an interrupt may leave locked.
        self._nothing = threading.Lock()

    def prepare_to_wait(self) -> None:
        self._nothing.acquire(blocking=False)

    def wait(self) -> None:
        self._nothing.acquire()

    def wake(self) -> None:
        if self._nothing.locked():
            self._nothing.release()


def _total_cost(tokens: TokenizedTexts) -> float:
    return sum(batch_cost(1, length) for length in tokens.lengths.tolist())
