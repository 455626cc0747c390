"""The queue in front of an engine: the texts of all waiting requests are batched together, batch after batch.

One thread runs the engine. Before each batch it plans over the texts of all requests that wait, by length, as
``encode`` does over those of one call. 32 threads that call ``encode`` with a text each reach 0.65 of the throughput of
one call with all their texts, and with ONNX Runtime eight with 64 texts each 0.8, because their batches have more
padding, and compete.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import batch_cost
from monograph.errors import MonographError
from monograph.inference.pipeline import BatchRunner
from monograph.tasks.base import Outputs, PostProcess
from monograph.tokenization import TokenizedTexts, join_texts

logger = logging.getLogger(__name__)

# Batches' worth of texts that are planned over. More need less padding, and planning takes longer.
_PLANNED_BATCHES = 16
# How much the latest batch counts in the measured speed.
_LATEST_SHARE = 0.1


@dataclass(eq=False)
class Job:
    """Tokenized texts of one request until they have their results.

    ``result`` is what ``post_process`` makes of all texts; ``error`` what is wrong instead. ``cancelled`` may be set by
    any thread: what was not computed by then is left out. ``waited`` are the seconds before its first batch,
    ``computed`` those from then to its last.
    """

    tokens: TokenizedTexts
    post_process: PostProcess[Any]
    on_done: Callable[[Job], object]
    result: Any = None
    error: Exception | None = None
    cancelled: bool = False
    waited: float = 0.0
    computed: float = 0.0
    _created: float = field(default_factory=time.perf_counter)
    _begun: float = 0.0
    _parts: list[tuple[NDArray[np.intp], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lengths = self.tokens.lengths
        self.left = np.arange(len(self.lengths), dtype=np.intp)
        self.cost = sum(batch_cost(1, length) for length in self.lengths.tolist())

    def begin(self) -> None:
        """Note that its first text is computed."""
        if not self._begun:
            self._begun = time.perf_counter()
            self.waited = self._begun - self._created

    def take(self, rows: NDArray[np.intp], outputs: Outputs) -> bool:
        """Add outputs (float32 [b, width]) of some texts (intp [b]), and return whether these were the last."""
        self._parts.append((rows, self.post_process(outputs)))
        if len(self._parts) == 1 and len(rows) == len(self.lengths) == 1:
            self.left = self.left[:0]
        else:
            self.left = np.setdiff1d(self.left, rows, assume_unique=True)
        if len(self.left):
            return False
        self.computed = time.perf_counter() - self._begun
        parts, self._parts = self._parts, []
        self.result = parts[0][1] if len(self.lengths) == 1 else self.post_process.collect(parts, len(self.lengths))
        return True


@dataclass(frozen=True)
class Batch:
    """A batch that was computed, for those who measure: rows, tokens without padding, and seconds."""

    rows: int
    tokens: int
    seconds: float


@dataclass(eq=False)
class _Level:
    """The jobs of about one size, in the order they came; ``served`` is the cost that was computed for them."""

    served: float = 0.0
    # Of this type, both taking the first and removing any are fast.
    jobs: OrderedDict[Job, None] = field(default_factory=OrderedDict)


class EngineQueue:
    """Computes the jobs of one engine in a thread of its own.

    Jobs are grouped by size: those of one batch, of two, of up to four, and so on. Groups that have jobs get equal
    shares of the engine, and within a group the first is served first; so a short text waits for the batch that is
    being computed and not for the thousands of texts that came before, and a large request is never starved.

    ``runner`` computes the batches. ``on_batch`` is called after each batch, in the thread.
    """

    def __init__(self, runner: BatchRunner, name: str, on_batch: Callable[[Batch], object] = lambda _: None) -> None:
        self._runner = runner
        self._on_batch = on_batch
        self._arrived: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._levels: dict[int, _Level] = {}
        self._planned: list[Job] = []
        self._plan: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        self._closing = False
        self.tokens_per_second = 0.0
        self._thread = threading.Thread(target=self._run, name=f"engine of {name}", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether jobs are still computed."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Have a job computed; its ``on_done`` is called in the engine's thread."""
        self._arrived.put(job)

    def close(self) -> None:
        """End the thread after the jobs that were submitted."""
        self._arrived.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            if not self._accept_arrivals():
                return
            chosen = self._next_batch()
            if chosen is not None:
                self._compute(*chosen)

    def _accept_arrivals(self) -> bool:
        """Take what arrived, and wait for something if nothing is left to do; return False at the end."""
        while True:
            idle = not any(level.jobs for level in self._levels.values())
            if idle and self._closing:
                return False
            try:
                job = self._arrived.get(block=idle)
            except queue.Empty:
                return True
            if job is None:
                self._closing = True
            else:
                self._add(job)
                # The others that came meanwhile, before anything is planned.
                for _ in range(self._arrived.qsize()):
                    more = self._arrived.get()
                    if more is None:
                        self._closing = True
                    else:
                        self._add(more)
                return True

    def _add(self, job: Job) -> None:
        size = max(0, math.ceil(math.log2(max(job.cost / self._runner.max_cost, 1e-9))))
        level = self._levels.setdefault(size, _Level())
        if not level.jobs:
            # It gets its share from now on, and not for the time in which it had nothing to do.
            busy = [other.served for other in self._levels.values() if other.jobs]
            level.served = max(level.served, min(busy, default=0.0))
        level.jobs[job] = None
        self._plan = []

    def _next_batch(self) -> tuple[list[Job], NDArray[np.intp], NDArray[np.intp]] | None:
        """Return the jobs of the plan, and for each row of the next batch its job and its place in that job."""
        level = min((level for level in self._levels.values() if level.jobs), key=lambda level: level.served)
        urgent = next(iter(level.jobs))
        if urgent.cancelled:
            self._remove_cancelled()
            return None
        if not self._plan or urgent not in self._planned:
            self._make_plan(urgent)
        index = self._planned.index(urgent)
        place = next(place for place, (owners, _) in enumerate(self._plan) if (owners == index).any())
        owners, rows = self._plan.pop(place)
        if any(self._planned[owner].cancelled for owner in set(owners.tolist())):
            self._remove_cancelled()
            return None
        lengths = [self._planned[owner].lengths[row] for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)]
        level.served += batch_cost(len(rows), int(max(lengths)))
        return self._planned, owners, rows

    def _make_plan(self, urgent: Job) -> None:
        """Plan over the urgent job and others, in the order they came, up to some batches' worth."""
        jobs, cost = [urgent], urgent.cost
        limit = _PLANNED_BATCHES * self._runner.max_cost
        for level in sorted(self._levels):
            for job in self._levels[level].jobs:
                if cost >= limit:
                    break
                alike = job.tokens.prompt_length == urgent.tokens.prompt_length
                if job is not urgent and alike and not job.cancelled:
                    jobs.append(job)
                    cost += job.cost
        self._planned = jobs
        owners = np.repeat(np.arange(len(jobs), dtype=np.intp), [len(job.left) for job in jobs])
        rows = np.concatenate([job.left for job in jobs])
        lengths = np.concatenate([job.lengths[job.left] for job in jobs])
        self._plan = [(owners[chosen], rows[chosen]) for chosen in self._runner.plan_lengths(lengths)]

    def _remove_cancelled(self) -> None:
        for level in self._levels.values():
            for job in [job for job in level.jobs if job.cancelled]:
                del level.jobs[job]
        self._plan = []

    def _compute(self, jobs: Sequence[Job], owners: NDArray[np.intp], rows: NDArray[np.intp]) -> None:
        texts = zip(owners.tolist(), rows.tolist(), strict=True)
        tokens = join_texts([jobs[owner].tokens.text(row) for owner, row in texts])
        begin = time.perf_counter()
        for owner in set(owners.tolist()):
            jobs[owner].begin()
        try:
            [(_, outputs)] = self._runner.run_batches(tokens, [np.arange(len(rows), dtype=np.intp)])
        except Exception as error:  # noqa: BLE001  # it is passed on to those who wait
            self._fail(jobs, owners, rows, error)
            return
        seconds = time.perf_counter() - begin
        self._on_batch(Batch(len(rows), len(tokens.ids), seconds))
        speed = len(tokens.ids) / max(seconds, 1e-6)
        self.tokens_per_second += (speed - self.tokens_per_second) * (_LATEST_SHARE if self.tokens_per_second else 1)
        self._hand_out(jobs, owners, rows, outputs)

    def _hand_out(
        self, jobs: Sequence[Job], owners: NDArray[np.intp], rows: NDArray[np.intp], outputs: Outputs
    ) -> None:
        for owner in dict.fromkeys(owners.tolist()):
            job = jobs[owner]
            mine = np.flatnonzero(owners == owner)
            try:
                done = job.take(rows[mine], outputs[mine])
            except Exception as error:  # noqa: BLE001  # it is passed on to those who wait
                job.error, done = error, True
            if done:
                self._finish(job)

    def _fail(self, jobs: Sequence[Job], owners: NDArray[np.intp], rows: NDArray[np.intp], error: Exception) -> None:
        """Compute each job's part of a failed batch by itself: whose text it was is not known."""
        several = set(owners.tolist())
        if len(several) > 1 and isinstance(error, MonographError):
            for owner in sorted(several):
                mine = owners == owner
                self._compute(jobs, owners[mine], rows[mine])
            return
        if not isinstance(error, MonographError):
            logger.error("a batch failed", exc_info=error)
        for owner in several:
            jobs[owner].error = error
            self._finish(jobs[owner])

    def _finish(self, job: Job) -> None:
        for level in self._levels.values():
            level.jobs.pop(job, None)
        if job.error is not None:
            # Others of its texts may still be planned.
            self._plan = []
        if not job.cancelled:
            job.on_done(job)
