"""One system under measurement, seen from outside: its process, its answers, its use of CPU and memory."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
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
# Every library's own way to be told how many threads it may have, beside what its adapter sets and the affinity mask.
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


class MeasurementError(MonographError):
    """A system cannot be loaded, failed, or did not answer in time."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process and its children, in bytes; None where the operating system does not tell it.

    ``anonymous`` is what no file is behind, ``peak`` the most that was resident so far.
    """

    resident: int
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
        told = json.dumps({"adapter": system.adapter, "options": system.options})
        command = [str(system.python), "-P", str(WORKER), told, ",".join(map(str, cpus))]
        begin = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603 - our own worker
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=environment(len(cpus), system.python), bufsize=0,
        )  # fmt: skip
        self._seen = psutil.Process(self._process.pid)
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise
        self.seconds_to_first_vector = time.perf_counter() - begin

    def ask(self, do: str, **details: object) -> dict[str, Any]:
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
        return sum(sum(process.cpu_times()[:2]) for process in self._all())

    def memory(self) -> Memory:
        """Return the memory in use, and the most there was."""
        processes = self._all()
        status = [_status(process.pid) for process in processes]
        known = all(status)
        return Memory(
            resident=sum(process.memory_info().rss for process in processes),
            anonymous=sum(told["RssAnon"] for told in status) if known else None,
            peak=sum(told["VmHWM"] for told in status) if known else None,
        )

    def pause(self) -> None:
        """Stop the process where it is: while others are measured it must not take a cycle."""
        for process in self._all():
            process.suspend()

    def resume(self) -> None:
        """Let the process go on."""
        for process in self._all():
            process.resume()

    def close(self) -> None:
        """End the process and those that it started."""
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._seen, *self._seen.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        if reason := answer.get("failed"):
            raise MeasurementError(str(reason))
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
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        return f"ended with exit status {status}: {lines[-1]}"


def environment(threads: int, python: Path) -> dict[str, str]:
    """Return this process's variables with the thread budget, for another Python without those of this one."""
    foreign = () if python == Path(sys.executable) else ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | _QUIET | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def _status(pid: int) -> dict[str, int]:
    """Return the memory lines of /proc/PID/status in bytes, nothing where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.strip().endswith("kB")}
