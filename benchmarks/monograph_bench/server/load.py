"""Load on a server: clients that wait for their answers, or requests that arrive whatever the server does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from monograph_bench.server.client import Answer, Connection, Target

# Requests that wait for an answer at a time: a server that answers none would have the client open ever more.
_MAX_CONNECTIONS = 1_000
_GRACE_SECONDS = 60


@dataclass
class Outcome:
    """What became of the requests of a run.

    ``seconds`` are those of each answered request: in a closed loop from its sending, in an open one from when it was
    due, so that a client that falls behind hides nothing. ``statuses`` counts the answers, ``lost`` the requests
    without one, ``wrong`` the answers that are not what was expected; ``duration`` and ``client_cpu`` are in seconds.
    """

    offered: float = 0.0
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    wrong: int = 0
    duration: float = 0.0
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return self.statuses[200] / max(self.duration, 1e-9)

    def percentile(self, share: float) -> float:
        """Return the seconds that a share of the requests took at most, NaN without any."""
        return float(np.percentile(self.seconds, share)) if self.seconds else float("nan")


# Whether the answer to a request, by its number, is right.
Check = Callable[[int, bytes], bool]


class Sender:
    """Sends requests of a list in turn, and notes what becomes of each."""

    def __init__(self, target: Target, requests: Sequence[bytes], check: Check | None) -> None:
        self._target = target
        self._requests = requests
        self._check = check
        self._next = 0
        self.outcome = Outcome()

    async def send(self, connection: Connection, due: float) -> None:
        """Send the next request; ``due`` is when it should have been."""
        number = self._next % len(self._requests)
        self._next += 1
        try:
            answer = await connection.send(self._requests[number])
        except OSError:
            self.outcome.lost += 1
            return
        self.outcome.seconds.append(time.perf_counter() - due)
        self._note(number, answer)

    def _note(self, number: int, answer: Answer) -> None:
        self.outcome.statuses[answer.status] += 1
        if answer.status == 200 and self._check is not None and not self._check(number, answer.body):
            self.outcome.wrong += 1


async def run_closed(
    target: Target, requests: Sequence[bytes], clients: int, seconds: float, check: Check | None = None
) -> Outcome:
    """Have clients send one request after the other, each on its connection, for some seconds."""
    sender = Sender(target, requests, check)
    begin, cpu = time.perf_counter(), time.process_time()
    end = begin + seconds

    async def one() -> None:
        connection = await Connection.open(target)
        while (now := time.perf_counter()) < end:
            if not connection.is_open:
                connection = await Connection.open(target)
            await sender.send(connection, now)
        connection.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return _finish(sender.outcome, begin, cpu)


async def run_open(
    target: Target, requests: Sequence[bytes], rate: float, seconds: float, seed: int, check: Check | None = None
) -> Outcome:
    """Send requests at random times, ``rate`` a second on average (a Poisson process), for some seconds."""
    sender = Sender(target, requests, check)
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=max(1, round(rate * seconds)))
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    begin, cpu = time.perf_counter(), time.process_time()

    async def one(due: float) -> None:
        try:
            connection = _pop_open(idle) or await Connection.open(target)
        except OSError:
            sender.outcome.lost += 1
            return
        await sender.send(connection, due)
        if connection.is_open:
            idle.append(connection)

    async for due in _arrivals((begin + np.cumsum(gaps)).tolist()):
        while len(running) >= _MAX_CONNECTIONS:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(list(running), timeout=_GRACE_SECONDS)
    sender.outcome.lost += len(running)
    outcome = _finish(sender.outcome, begin, cpu)
    outcome.offered = rate
    for connection in idle:
        connection.close()
    return outcome


async def _arrivals(times: Sequence[float]) -> AsyncIterator[float]:
    """Yield each time, of ``time.perf_counter``, when it has come.

    A thread waits for them: an event loop's timers are a millisecond late, and to poll the clock would take
    CPU time from a server on the same machine.
    """
    loop = asyncio.get_running_loop()
    come: asyncio.Queue[float] = asyncio.Queue()
    stopping = threading.Event()

    def pace() -> None:
        for due in times:
            if stopping.is_set():
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            loop.call_soon_threadsafe(come.put_nowait, due)

    thread = threading.Thread(target=pace, name="arrivals", daemon=True)
    thread.start()
    try:
        for _ in times:
            yield await come.get()
    finally:
        stopping.set()
        thread.join()


def _pop_open(idle: list[Connection]) -> Connection | None:
    """Take a connection that is still open, None if there is none."""
    while idle:
        connection = idle.pop()
        if connection.is_open:
            return connection
    return None


def _finish(outcome: Outcome, begin: float, cpu: float) -> Outcome:
    outcome.duration = time.perf_counter() - begin
    outcome.client_cpu = time.process_time() - cpu
    return outcome
