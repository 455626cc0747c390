"""Several processes that serve at one address, and the one that starts them again.

Each worker is a new interpreter: an engine's threads do not survive a fork. It inherits a socket that has the address,
a pipe to say that it is ready, and one whose end tells it that its supervisor has gone. On Linux it listens with a
socket of its own, so that the system spreads connections over the workers: one of those that wait at the same socket
was seen to accept all of 64.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from monograph.bundle import open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cpu import available_cpus
from monograph.errors import printable
from monograph.progress import Progress
from monograph.server.metrics import MULTIPROCESS_FOLDER, forget_process
from monograph.server.server import SPREADS_CONNECTIONS, Options, bind_shared, serve

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
# A worker that ended sooner than this is started again later each time.
_STABLE_SECONDS = 10.0
_MAX_DELAY_SECONDS = 30.0
# Beyond what a worker needs at most to answer what it has accepted.
_KILL_SECONDS = 15.0
_READY = b"ready"


@dataclass
class _Worker:
    """A worker process, the pipe that it says ready on, and how often it ended soon after its start."""

    process: subprocess.Popen[bytes]
    ready: int
    started: float
    early_ends: int = 0
    is_ready: bool = False


def supervise(
    options: Options,
    words: Sequence[str],
    bound: socket.socket,
    workers: int,
    on_ready: Callable[[None], object],
    progress: Progress,
) -> int:
    """Start workers by the command's own ``words``, start again those that end, and return the exit code at the end.

    ``on_ready`` is called when all workers answer requests for the first time. The exit code is 1 if the first worker
    could not start, which has said why.

    Raises:
        BundleError: a bundle is missing or damaged.

    """
    _prepare(options, progress)
    if not SPREADS_CONNECTIONS:
        bound.listen()
    with tempfile.TemporaryDirectory(prefix="monograph-serve-") as folder:
        supervisor = _Supervisor(options, words, bound, workers, Path(folder))
        with supervisor.handle_signals():
            with progress.step("Starting workers", workers, "workers") as step:
                started = supervisor.start(step.advance)
            if not started:
                return 1
            if not supervisor.is_stopping:
                on_ready(None)
            supervisor.watch()
        return 0


def run_worker(options: Options, listening: int, ready: int, lifeline: int) -> None:
    """Serve from an inherited socket, until a signal or the end of the supervisor.

    Raises:
        MonographError: a bundle cannot be opened, or failed verification.

    """

    def wait_for_end() -> None:
        # Nothing is ever written: the pipe's end is that of the supervisor.
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="supervisor", daemon=True).start()

    def say_ready(_: object) -> None:
        os.write(ready, _READY)
        os.close(ready)

    serve(options, _own_socket(socket.socket(fileno=listening)), say_ready)


def _own_socket(inherited: socket.socket) -> socket.socket:
    """Return a socket of this process with the address of one that ``Address.bind`` made for several processes."""
    if not SPREADS_CONNECTIONS:
        return inherited
    with inherited:
        return bind_shared(inherited.family, inherited.getsockname())


class _Supervisor:
    """The workers of a server."""

    def __init__(
        self, options: Options, words: Sequence[str], bound: socket.socket, workers: int, folder: Path
    ) -> None:
        self._words = list(words)
        if options.models.threads is None:
            self._words += ["--threads", str(max(1, available_cpus() // workers))]
        self._bound = bound
        self._folder = folder
        self._drain_seconds = options.limits.timeout + _KILL_SECONDS
        self._lifeline, self._own_end = os.pipe()
        self._count = workers
        self._workers: list[_Worker | None] = [None] * workers
        self._due: list[tuple[float, int]] = [(math.inf, 0)] * workers
        self.is_stopping = False

    def start(self, advance: Callable[[], object]) -> bool:
        """Start all workers, and wait until they are ready; return False if the first ended before.

        Others start after it, and again where they end, as later.
        """
        for places in ([0], range(1, self._count)):
            for place in places:
                self._start(place, 0)
            waiting = set(places)
            while waiting and not self.is_stopping:
                time.sleep(_POLL_SECONDS)
                ready = {place for place in waiting if self._is_place_ready(place)}
                for _ in ready:
                    advance()
                waiting -= ready
                worker = self._workers[0]
                if 0 in waiting and worker is not None and worker.process.poll() is not None:
                    self.stop()
                    return False
                self._start_again()
        return True

    def watch(self) -> None:
        """Start again the workers that end, until a signal; then wait for all of them."""
        while not self.is_stopping:
            time.sleep(_POLL_SECONDS)
            self._start_again()
        self.stop()

    def _start_again(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker is not None and worker.process.poll() is not None:
                self._note_end(place, worker)
            elif worker is None and self._due[place][0] <= time.monotonic() and not self.is_stopping:
                self._start(place, self._due[place][1])

    def _is_place_ready(self, place: int) -> bool:
        worker = self._workers[place]
        return worker is not None and self._is_ready(worker)

    def stop(self) -> None:
        """Have all workers answer what they have accepted, and end them."""
        self.is_stopping = True
        self._bound.close()
        running = [worker.process for worker in self._workers if worker is not None]
        _signal(running, signal.SIGTERM)
        for process in running:
            try:
                process.wait(self._drain_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """End at SIGTERM and Ctrl-C, and pass SIGHUP on."""

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.is_stopping = True

        def reload(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            _signal([worker.process for worker in self._workers if worker is not None], number)

        handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, reload)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _start(self, place: int, early_ends: int) -> None:
        ready, other_end = os.pipe()
        inherited = (self._bound.fileno(), other_end, self._lifeline)
        words = [sys.executable, "-m", "monograph", *self._words, "--quiet", "--worker", *map(str, inherited)]
        try:
            process = subprocess.Popen(  # noqa: S603  # our own command
                words,
                pass_fds=inherited,
                # Ctrl-C goes to the terminal's whole group: the supervisor passes it on.
                start_new_session=True,
                env=os.environ | {MULTIPROCESS_FOLDER: str(self._folder)},
            )
        finally:
            os.close(other_end)
        os.set_blocking(ready, False)
        self._workers[place] = _Worker(process, ready, time.monotonic(), early_ends)

    def _is_ready(self, worker: _Worker) -> bool:
        if not worker.is_ready:
            with suppress(BlockingIOError):
                worker.is_ready = os.read(worker.ready, len(_READY)) == _READY
        return worker.is_ready

    def _note_end(self, place: int, worker: _Worker) -> None:
        os.close(worker.ready)
        forget_process(worker.process.pid, self._folder)
        early = worker.early_ends + 1 if time.monotonic() - worker.started < _STABLE_SECONDS else 0
        delay = min(_MAX_DELAY_SECONDS, 2.0**early - 1)
        logger.warning(
            "worker %d ended with exit code %d and is started again in %g s",
            worker.process.pid,
            worker.process.returncode,
            delay,
        )
        self._workers[place] = None
        self._due[place] = time.monotonic() + delay, early


def _prepare(options: Options, progress: Progress) -> None:
    """Have the workers map the same packed weights, where their engine has such; without, each has its own.

    Another process does it, whose memory is freed.

    Raises:
        BundleError: a bundle is missing or damaged.

    """
    models = options.models
    words = ["--device", models.device, "--compute-dtype", models.compute_dtype, "--quiet"]
    if models.quality is not None:
        words += ["--quality", models.quality]
    for path in options.bundles.values():
        open_bundle(locate_bundle(path))
        with progress.step(f"Preparing {path}"):
            command = [sys.executable, "-m", "monograph", "prepare", path, *words]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)  # noqa: S603
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip()
            logger.warning("the workers do not share weights: %s", printable(reason))


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        # Of one that has ended, and was not waited for yet, this is nothing.
        process.send_signal(number)
