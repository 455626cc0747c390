"""Processes that each have the model open and embed one shard after the other, on cores of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from monograph.bulk.encoder import Encoder, EncoderOptions
from monograph.cpu import available_cpus
from monograph.errors import MonographError
from monograph.preparation import prepare

logger = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Rest = ParamSpec("Rest")
# A worker that dies has its item embedded by another, once: what kills two would kill the others as well.
_MAX_DEATHS = 2
_SYSTEM_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Failure:
    """What a worker could not do: the message of its error."""

    message: str


@dataclass(frozen=True)
class Outcome(Generic[ItemT, ResultT]):
    """An item that is finished: its result, or why there is none."""

    item: ItemT
    result: ResultT | Failure


def message_of(error: BaseException) -> str:
    """Return an error and its notes in one line."""
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return "; ".join([message, *getattr(error, "__notes__", ())])


def attempt(function: Callable[Concatenate[ItemT, Rest], ResultT], item: ItemT, *rest: Rest.args) -> ResultT | Failure:  # type: ignore[valid-type]
    """Return a function's result for an item, or its failure, of the kinds that another item may not have.

    An interrupt is raised, also where what it ended failed to clean up.
    """
    try:
        return function(item, *rest)  # type: ignore[call-arg]
    except (MonographError, OSError, MemoryError) as error:
        cause = error.__context__
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise cause from error
            cause = cause.__context__
        return Failure(message_of(error))


class Workers:
    """Open processes; ``with`` closes them.

    Args:
        options: The model that each opens.
        cpus: For each process the CPUs that it runs on, and as many threads.

    Raises:
        MonographError: the first process cannot open the model, or another one opens another.

    """

    def __init__(self, options: EncoderOptions, cpus: Sequence[Sequence[int]]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        try:
            # The first maps what the others share, and says which model all must have.
            self._workers.append(_Worker(self._context, options, cpus[0], prepares=len(cpus) > 1))
            self.fingerprint = self._workers[0].wait_until_open()
            self._options = replace(options, fingerprint=self.fingerprint)
            self._workers += [_Worker(self._context, self._options, cpu_set, prepares=False) for cpu_set in cpus[1:]]
            for worker in self._workers[1:]:
                worker.wait_until_open()
        except BaseException:
            self.close()
            raise

    def map(
        self, function: Callable[..., ResultT], items: Iterable[ItemT], *arguments: Any
    ) -> Iterator[Outcome[ItemT, ResultT]]:
        """Yield the outcome of ``function(item, *arguments, encoder)`` for each item, as they are finished.

        Function, items and arguments must be picklable.
        """
        waiting = deque(items)
        deaths: dict[int, int] = {}
        busy: dict[int, ItemT] = {}
        for place in range(len(self._workers)):
            self._give(place, waiting, busy, function, arguments)
        while busy:
            for place, answer in self._answers(busy):
                item = busy.pop(place)
                if answer is None:
                    reason = self._restart(place)
                    deaths[id(item)] = deaths.get(id(item), 0) + 1
                    if deaths[id(item)] < _MAX_DEATHS:
                        logger.warning("a worker %s and was started again", reason)
                        waiting.appendleft(item)
                    else:
                        yield Outcome(
                            item, Failure(f"the worker {reason}, twice: give it more memory, or fewer workers")
                        )
                else:
                    yield Outcome(item, answer)
                self._give(place, waiting, busy, function, arguments)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give(
        self, place: int, waiting: deque[ItemT], busy: dict[int, ItemT], function: Any, arguments: tuple[Any, ...]
    ) -> None:
        if waiting:
            busy[place] = waiting.popleft()
            # One that has died is noticed where its answer is waited for.
            with suppress(OSError):
                self._workers[place].connection.send((function, busy[place], arguments))

    def _answers(self, busy: dict[int, Any]) -> list[tuple[int, Any]]:
        """Wait, and return the places of the workers that have answered, with None where one has died."""
        places = {self._workers[place].connection: place for place in busy}
        answers = []
        for connection in wait(list(places)):
            place = places[connection]  # type: ignore[index]
            try:
                answers.append((place, self._workers[place].connection.recv()))
            except (EOFError, OSError):
                answers.append((place, None))
        return answers

    def _restart(self, place: int) -> str:
        """Replace a worker that died, and return what ended it."""
        dead = self._workers[place]
        dead.end()
        self._workers[place] = _Worker(self._context, self._options, dead.cpus, prepares=False)
        self._workers[place].wait_until_open()
        code = dead.process.exitcode
        return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


class _Worker:
    """A process, as its parent sees it."""

    def __init__(self, context: Any, options: EncoderOptions, cpus: Sequence[int], *, prepares: bool) -> None:
        self.cpus = cpus
        self.connection: Connection
        self.connection, other = context.Pipe()
        options = replace(options, source=replace(options.source, threads=len(cpus)))
        self.process: SpawnProcess = context.Process(target=_serve, args=(other, options, cpus, prepares), daemon=True)
        self.process.start()
        other.close()

    def wait_until_open(self) -> str:
        """Return the fingerprint of the model, once it is open."""
        try:
            answer = self.connection.recv()
        except EOFError as error:
            self.process.join()
            raise MonographError(
                f"a worker ended with exit code {self.process.exitcode} as it opened the model: see what it wrote, or "
                "leave out --workers"
            ) from error
        if isinstance(answer, Failure):
            raise MonographError(answer.message)
        return str(answer)

    def end(self) -> None:
        """End the process at once: what it has not finished is of no use."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(connection: Connection, options: EncoderOptions, cpus: Sequence[int], prepares: bool) -> None:
    """Run a worker: open the model, then answer until the parent closes the connection."""
    # The parent decides what an interrupt ends, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
    try:
        if prepares:
            _share_weights(options)
        encoder = Encoder(options)
    except (MonographError, OSError, MemoryError) as error:
        connection.send(Failure(message_of(error)))
        return
    connection.send(encoder.model.fingerprint)
    while True:
        try:
            function, item, arguments = connection.recv()
        except EOFError:
            return
        connection.send(attempt(function, item, *arguments, encoder))


def _end_with_parent() -> None:
    """End this process when its parent has ended, however that came: a kill leaves no workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _share_weights(options: EncoderOptions) -> None:
    """Have the weights packed once for all processes; where that cannot be, each has its own."""
    source = options.source
    try:
        prepare(
            source.path, source.device, source.compute_dtype, source.threads, source.cache_dir, False, source.quality
        )
    except MonographError as error:
        logger.info("the workers do not share their weights: %s", error)


def share_cpus(workers: int, threads: int | None = None) -> list[list[int]]:
    """Return for each of some workers the CPUs that it runs on: disjoint, and neighbours, as long as there are enough.

    ``threads`` is their number for each worker; None divides those that this process may use.
    """
    cpus = _own_cpus()
    count = max(1, available_cpus() // workers) if threads is None else threads
    return [[cpus[(worker * count + place) % len(cpus)] for place in range(count)] for worker in range(workers)]


def _own_cpus() -> list[int]:
    """Return the CPUs that this process may use, those of a core and of a socket behind each other."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted(
        os.sched_getaffinity(0), key=lambda cpu: (_topology(cpu, "physical_package_id"), _topology(cpu, "core_id"), cpu)
    )


def _topology(cpu: int, name: str) -> int:
    try:
        return int((_SYSTEM_CPUS / f"cpu{cpu}" / "topology" / name).read_text())
    except (OSError, ValueError):
        return 0
