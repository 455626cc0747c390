"""Calls of few texts that come while the engine is busy go through it together, as one batch, when it is free.

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

import numpy as np
from numpy.typing import NDArray

from monograph.batching import batch_cost
from monograph.tokenization import TokenizedTexts

_Outputs = NDArray[np.float32]
_Compute = Callable[[TokenizedTexts], _Outputs]


class DynamicBatcher:
    """Lets the texts of any number of callers be computed together, ``turns`` joint batches at a time.

    Joined are calls that together cost no more than ``max_cost`` (in tokens, as ``batching.price`` has it) and have
    no more than ``max_texts``. A call of a single text may cost more, and then goes alone.
    """

    def __init__(self, max_concurrency: int, max_cost: float, max_texts: int) -> None:
        self._max_cost = max_cost
        self._max_texts = max_texts
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._turns = max_concurrency
        # The threads that have a turn, each with the calls of its joint batch. Nothing else says that a turn is taken:
        # an interrupt may come between any two steps, and whoever is interrupted gives back what it has here.
        self._begun: dict[int, list[_Call]] = {}
        self._waiting: deque[_Call] = deque()

    def fits(self, tokens: TokenizedTexts) -> bool:
        """Return whether texts are few enough to be computed in one batch with others."""
        # No price is below the number of tokens, which is known at once.
        few = len(tokens.ids) <= self._max_cost and len(tokens.lengths) <= self._max_texts
        return few and _batch_cost(tokens) <= self._max_cost

    def outputs(self, tokens: TokenizedTexts, compute: _Compute) -> _Outputs:
        """Return the output of each text, float32 [n, d], the caller's own; raise what ``compute`` raises for them.

        ``compute`` returns the outputs of any texts in their order; every caller gives the same.
        """
        if self._process != os.getpid():
            # A fork may have copied the lock as another thread held it. The engine has the error for this.
            return compute(tokens)
        thread = threading.get_ident()
        try:
            # A caller alone takes this short way: after a run the CPU's caches hold weights, and Python code is slow.
            with self._lock:
                if thread in self._begun:
                    # It was interrupted twice, the second time as it gave its turn back.
                    self._give_back(thread)
                at_once = not self._waiting and self._is_free()
                if at_once:
                    self._begun[thread] = []
            if at_once:
                return compute(tokens)
        finally:
            try:
                self._end(thread)
            except BaseException:
                # An interrupt, maybe at the entry of that function: so this stands here and below and not in it.
                self._end(thread)
                raise
        return self._outputs_with_others(_Call(tokens), compute, thread)

    def _outputs_with_others(self, call: _Call, compute: _Compute, thread: int) -> _Outputs:
        try:
            with self._lock:
                self._waiting.append(call)
            while True:
                with self._lock:
                    if call.outputs is not None:
                        return call.outputs
                    if call.error is not None:
                        raise call.error
                    call.prepare_to_wait()
                    batch = self._begin_batch(thread)
                if batch:
                    # Whoever comes first computes for all that wait: to wake another takes longer.
                    self._run(batch, compute, thread)
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

    def _is_free(self) -> bool:
        return len(self._begun) < self._turns

    def _begin_batch(self, thread: int) -> list[_Call]:
        """Take a turn and the calls of one batch from those that wait; return none where all turns are taken."""
        if not self._is_free() or not self._waiting:
            return []
        first = self._waiting[0]
        batch, batch_cost, texts = [first], first.batch_cost, first.texts
        for following in islice(self._waiting, 1, None):
            batch_cost += following.batch_cost
            texts += following.texts
            alike = following.tokens.prompt_length == first.tokens.prompt_length
            if not alike or first.alone or following.alone or batch_cost > self._max_cost or texts > self._max_texts:
                break
            batch.append(following)
        self._begun[thread] = batch
        for _ in batch:
            self._waiting.popleft()
        # There may be another turn for those who are left.
        self._wake_first()
        return batch

    def _run(self, batch: list[_Call], compute: _Compute, thread: int) -> None:
        """Compute a batch, give each of its calls its outputs or its error, and the turn back."""
        try:
            outputs = compute(_joined([call.tokens for call in batch]))
            ends = np.cumsum([call.texts for call in batch])
            for call, part in zip(batch, np.split(outputs, ends[:-1]), strict=True):
                # Not a view, which would keep the others' alive.
                call.outputs = part.copy() if len(batch) > 1 else outputs
        except Exception as error:  # noqa: BLE001
            # Whose text it was is not known: where there are several, each is computed by itself.
            if len(batch) == 1:
                batch[0].error = error
        finally:
            self._end(thread)

    def _end(self, thread: int) -> None:
        """Give a thread's turn back, if it has one, and forget the calls whose callers wait no more."""
        with self._lock:
            self._give_back(thread)

    def _give_back(self, thread: int) -> None:
        for call in reversed(self._begun.get(thread, ())):
            if call.outputs is None and call.error is None and call not in self._waiting:
                call.alone = True
                self._waiting.appendleft(call)
            call.wake()
        self._begun.pop(thread, None)
        if self._waiting:
            self._waiting = deque(call for call in self._waiting if not call.left)
            self._wake_first()

    def _wake_first(self) -> None:
        if self._waiting and self._is_free():
            self._waiting[0].wake()


class _Call:
    """A call until it has its ``outputs`` or its ``error``; it is woken when it does, or may take a turn.

    ``alone``: the batch it was in failed or was interrupted, and it is computed by itself. ``left``: its caller waits
    no more. Only ``wait`` is called without the batcher's lock.
    """

    def __init__(self, tokens: TokenizedTexts) -> None:
        self.tokens = tokens
        self.batch_cost = _batch_cost(tokens)
        self.texts = len(tokens.lengths)
        self.outputs: _Outputs | None = None
        self.error: Exception | None = None
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


def _batch_cost(tokens: TokenizedTexts) -> float:
    return sum(batch_cost(1, length) for length in tokens.lengths.tolist())


def _joined(parts: list[TokenizedTexts]) -> TokenizedTexts:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([part.lengths for part in parts])
    return TokenizedTexts(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.type_ids for part in parts]),
        np.concatenate(([0], np.cumsum(lengths))),
        parts[0].prompt_length,
    )
