"""The progress of a process as lines of JSON, which its caller replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from monograph.errors import MonographError
from monograph.progress import Progress, Step

# The key by which an event is known among other lines.
_EVENT = "progress"


def is_event(value: Any) -> bool:
    """Tell whether a line, parsed, is an event of progress."""
    return isinstance(value, dict) and _EVENT in value


class Events(Progress):
    """Writes each event as a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Write a line as the step begins, for each advance, and when it is done."""
        self._write("step", name=name, total=total, unit=unit)
        yield _EventStep(self)
        self._write("done")

    def advance(self, count: int) -> None:
        """Write that units of the step are done."""
        self._write("advance", count=count)

    def _write(self, event: str, **values: object) -> None:
        print(json.dumps({_EVENT: event, **values}), file=self._stream, flush=True)


class _EventStep(Step):
    def __init__(self, events: Events) -> None:
        self._events = events

    def advance(self, count: int = 1) -> None:
        self._events.advance(count)


class Replay:
    """Reports the events of a process; a step that it left open is closed as one that failed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._read_bytes = 0
        self._open = ExitStack()
        self._step = Step()

    def read(self, output: bytes) -> None:
        """Report what is new in all that the process has written so far, whole lines only."""
        end = output.rfind(b"\n") + 1
        for line in output[self._read_bytes : end].splitlines():
            self._report(line)
        self._read_bytes = max(end, self._read_bytes)

    def _report(self, line: bytes) -> None:
        try:
            value = json.loads(line)
        except ValueError:
            # The caller says what is wrong with the process's answer.
            return
        if not is_event(value):
            return
        if value[_EVENT] == "step":
            self._step = self._open.enter_context(
                self._progress.step(str(value["name"]), value["total"], str(value["unit"]))
            )
        elif value[_EVENT] == "advance":
            self._step.advance(value["count"])
        else:
            self._open.close()

    def close(self) -> None:
        """Close the step that is open, as one that failed."""
        failure = MonographError("the process ended within the step")
        self._open.__exit__(type(failure), failure, None)
