"""One bash for all commands of a tutorial, so that folders, variables and background jobs last from one to the next."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS_TO_END = 20


class CommandTimeoutError(RuntimeError):
    """A command did not end in time."""


class Shell:
    """A bash in a session of its own; everything that is left of the session ends with it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], errors: Path) -> None:
        self._scripts = tempfile.TemporaryDirectory(prefix="monograph-shell-")
        self._errors = errors.open("wb")
        self._process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("bash was started without pipes")
        self._stdin, self._stdout = stdin, stdout
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stdout:
            self._lines.put(line)
        self._lines.put(None)

    def run(self, command: str, seconds: float) -> tuple[int, str]:
        """Run a command and return its exit status and standard output.

        A command that is not waited for to its end, after so many seconds or for a signal, is ended, so that others can
        follow.

        Raises:
            CommandTimeoutError: it takes longer than so many seconds.

        """
        mark, others = secrets.token_hex(8), processes_of_session(self._process.pid)
        script = Path(self._scripts.name) / "command"
        script.write_text(f"{command}\n", encoding="utf-8")
        # From a file, so that a command cannot read the next one as its input.
        try:
            self._stdin.write(f". {script} </dev/null; printf '\\n%s %d\\n' {mark} $?\n")
            self._stdin.flush()
        except BrokenPipeError:
            # A command before this one has ended it.
            return self._process.wait(), ""
        try:
            return self._wait(mark, seconds)
        except BaseException:
            self._end_command(mark, others)
            raise

    def _wait(self, mark: str, seconds: float) -> tuple[int, str]:
        end, printed = time.monotonic() + seconds, []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise CommandTimeoutError(f"no end after {seconds:.0f} s") from None
            if line is None:
                return self._process.wait(), "".join(printed)
            if line.startswith(mark):
                # The newline before the mark is this class's.
                return int(line.split()[1]), "".join(printed).removesuffix("\n")
            printed.append(line)

    def _end_command(self, mark: str, others: Sequence[int]) -> None:
        """End what the last command has started, first as Ctrl-C does."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for process in processes_of_session(self._process.pid):
                if process not in others:
                    _send(process, number)
            with suppress(CommandTimeoutError):
                self._wait(mark, _SECONDS_TO_END)
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + _SECONDS_TO_END
            left = processes_of_session(self._process.pid)
            for process in left:
                _send(process, number)
            while left and time.monotonic() < end:
                # Its own child is reaped, others have other parents.
                self._process.poll()
                left = processes_of_session(self._process.pid)
                time.sleep(0.1)
        self._process.wait()
        # A process that has left the session may still hold the pipe.
        self._reader.join(timeout=_SECONDS_TO_END)
        if not self._reader.is_alive():
            self._stdout.close()
        with suppress(BrokenPipeError):
            self._stdin.close()
        self._errors.close()
        self._scripts.cleanup()


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def processes_of_session(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found
