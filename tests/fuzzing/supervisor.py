"""Runs cases in a process of their own, whose end and silence are outcomes too."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from fuzzing.outcomes import HANG, MAX_SECONDS, Outcome

TESTS = Path(__file__).parents[1]
# A case makes a few calls, each of which has a limit of its own.
_CASE_SECONDS = 4 * MAX_SECONDS
_GRACE_SECONDS = 5.0
_START_SECONDS = 120.0
# One thread each: cases are small, and several workers share the machine.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "RUST_BACKTRACE": "0"}


class Supervisor:
    """One worker, which is started again after it has ended; a context manager."""

    def __init__(self, kind: str, device: str, seed: int) -> None:
        self._arguments = (kind, device, str(seed))
        self._process: subprocess.Popen[bytes] | None = None
        # Here and not in the worker, which may be killed.
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(kill=False)
        self._errors.close()

    def run(self, number: int, without: Collection[int] = (), save: Path | None = None) -> Outcome:
        """Run a case without some of its mutations; ``save`` is a folder for what it is made of."""
        process = self._start()
        request = {"number": number, "without": list(without), "save": None if save is None else str(save)}
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        mutations = tuple(json.loads(self._read_line(process, _START_SECONDS) or b"[]"))
        answer = self._read_line(process, _CASE_SECONDS)
        if answer is None:
            self._stop(kill=True)
            detail = f"no outcome after {_CASE_SECONDS:.0f} s: {self._tail()}"
            return Outcome(number, HANG, detail, mutations, _CASE_SECONDS)
        if not answer:
            code = process.wait()
            self._stop(kill=True)
            kind = f"exit by {signal.Signals(-code).name}" if code < 0 else "exit of the process"
            return Outcome(number, kind, f"exit code {code}: {self._tail()}", mutations)
        return _parse(json.loads(answer))

    def restart(self) -> None:
        """End the worker, so that the next case runs in a fresh one."""
        self._stop(kill=False)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop(kill=True)
        self._errors.truncate(0)
        self._errors.seek(0)
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._folder = tempfile.TemporaryDirectory(prefix="monograph-fuzz-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzzing.worker", *self._arguments, self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | _ENVIRONMENT | {"PYTHONPATH": path},
        )
        if self._read_line(self._process, _START_SECONDS) != b"ready":
            raise RuntimeError(f"the worker does not start: {self._tail()}")
        return self._process

    def _stop(self, *, kill: bool) -> None:
        process, self._process, self._unread = self._process, None, b""
        if process is None:
            return
        if kill:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _tail(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 1500))
        return self._errors.read().decode("utf-8", "replace")

    def _read_line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        """Return the next line of the worker, b"" where it ended, None where it is silent for too long."""
        assert process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            if not ready:
                return None
            # Past the file's buffer, in which select would not see a line.
            content = os.read(process.stdout.fileno(), 1 << 16)
            if not content:
                return b""
            self._unread += content
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _parse(value: dict[str, Any]) -> Outcome:
    return Outcome(**{**value, "mutations": tuple(value["mutations"])})
