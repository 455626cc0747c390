"""One system under measurement, seen from outside: its process, its answers, its use of CPU and memory."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from monograph.errors import MonographError
from monograph_bench.systems import System

WORKER = Path(__file__).parent / "worker"
# Each library's own variable for its number of threads, beside what its adapter sets and the affinity mask.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
# No network, no telemetry, no progress bars: nothing that the one system does and the other does not.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
_CHUNK = 1 << 16
# What a process may take to end once it has closed its output, or to stop.
_SECONDS_TO_END = 5


class MeasurementError(MonographError):
    """A system cannot be loaded, ended, or did not answer in time."""


class RequestError(MeasurementError):
    """A request failed in the system, which goes on."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process and its children, in bytes; None where the operating system does not report it.

    ``anonymous`` is what no file backs, swapped out or not; ``peak`` the maximum that was resident so far.
    """

    resident: int | None
    anonymous: int | None
    peak: int | None


class SystemProcess:
    """A running system; starting it loads the model and embeds a first text.

    Raises:
        MeasurementError: it cannot be loaded.

    """

    def __init__(self, system: System, cpus: Sequence[int], timeout: float) -> None:
        self.system = system
        self._timeout = timeout
        # A file: an unread pipe would block a system that prints much.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        # -P: what lies in the current folder is no package of the system's.
        request = json.dumps({"adapter": system.adapter, "options": system.options})
        command = [str(system.python), "-P", str(WORKER), request, ",".join(map(str, cpus))]
        begin = time.perf_counter()
        try:
            # A session of its own: Ctrl-C is this process's affair, and whatever the system starts ends with it.
            self._process = subprocess.Popen(  # noqa: S603 - our own worker
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                env=environment_variables(len(cpus), system.python), bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._errors.close()
            raise MeasurementError(f"{system.python} cannot be started: {error.strerror}") from error
        self._seen = psutil.Process(self._process.pid)
        try:
            self._answer()
            self.seconds_to_first_vector = time.perf_counter() - begin
            self.described: dict[str, str] = self.request("describe")["described"]
        except BaseException:
            self.close()
            raise

    def request(self, do: str, **details: object) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            MeasurementError: the request failed, the process ended or did not answer in time.

        """
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            self._process.stdin.write((json.dumps({"do": do, **details}) + "\n").encode())
        except BrokenPipeError:
            raise MeasurementError(self._death()) from None
        return self._answer()

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process and its children have used, in seconds."""
        seconds = 0.0
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:2])
        return seconds

    def memory(self) -> Memory:
        """Return the memory in use, and its maximum so far."""
        status = [lines for process in self._all() if (lines := _status(process.pid))]
        return Memory(*(_sum(status, *names) for names in (("VmRSS",), ("RssAnon", "VmSwap"), ("VmHWM",))))

    def pause(self) -> None:
        """Stop the process where it is: while others are measured it must not take a cycle."""
        self._signal(signal.SIGSTOP)
        # The signal comes to each thread in its own time.
        deadline = time.monotonic() + _SECONDS_TO_END
        while any(_runs(process) for process in self._all()) and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let the process go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and those that it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._seen, *self._seen.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        if reason := answer.get("failed"):
            raise RequestError(str(reason))
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + self._timeout
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not parts or not parts[-1].endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise MeasurementError(f"no answer within {self._timeout:.0f} s")
                parts.append(os.read(descriptor, _CHUNK))
                if not parts[-1]:
                    raise MeasurementError(self._death())
        return b"".join(parts)

    def _death(self) -> str:
        try:
            status = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        return f"ended with exit status {status}: {lines[-1]}"


def environment_variables(threads: int, python: Path) -> dict[str, str]:
    """Return this process's variables with the thread budget, for another Python without those of this one."""
    foreign = () if python == Path(sys.executable) else ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    own = {name: value for name, value in os.environ.items() if name not in foreign}
    return own | _QUIET | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:
        return False


def _status(pid: int) -> dict[str, int]:
    """Return the memory lines of /proc/PID/status in bytes, nothing where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.strip().endswith("kB")}


def _sum(status: Sequence[dict[str, int]], *names: str) -> int | None:
    """Return the sum of some lines of all processes, None where one does not have them."""
    values = [lines.get(name) for lines in status for name in names]
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
