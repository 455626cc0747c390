"""Report which step a long operation is in and how far it has come: not at all, in lines, or as bars.

A function that takes long has a ``progress`` argument and opens its steps on it, one after the other and never one
within another. Who calls it chooses the kind of ``Progress``.
"""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TextIO

from monograph.errors import printable

# The unit of steps that count bytes.
BYTES = "bytes"
# By default, bars are for those who log at one of these levels: the rule of SentenceTransformer.encode.
BAR_LEVELS = (logging.INFO, logging.DEBUG)
# The whole package's, as users name it to see more.
_LOGGER = logging.getLogger("monograph")
# Between two lines of one step, in log files and pipes.
_LINE_SECONDS = 30.0
# Characters of a step's name: a terminal's line has room for it and the shortest bar.
_MAX_NAME = 60


class Step:
    """A step under way; this one reports nothing."""

    def advance(self, count: int = 1) -> None:
        """Report that ``count`` more of the step's units are done."""


class Progress(ABC):
    """Where the steps of a long operation are reported."""

    @abstractmethod
    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        """Report a step as long as the context lasts.

        Args:
            name: What is being done: "Tracing the model".
            total: The number of units that it takes, None where that is not known before the end.
            unit: The plural of what is counted: "texts"; ``BYTES`` is shown as kB, MB and GB.

        """


class Silent(Progress):
    """Reports nothing."""

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:  # noqa: ARG002
        """Report nothing."""
        return nullcontext(Step())


SILENT = Silent()


class Lines(Progress):
    """A line for each step as it begins and every 30 s of it, with the seconds since this was made: for log files."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._begin = time.monotonic()

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        """Write a line."""
        amount = None if total is None else format_amount(total, unit)
        self._write(name, amount)
        if amount is None:
            return nullcontext(Step())
        return nullcontext(_LineStep(lambda done: self._write(name, f"{done} of {amount}"), unit))

    def _write(self, name: str, amount: str | None) -> None:
        rest = "" if amount is None else f": {amount}"
        _write(self._stream, f"[{time.monotonic() - self._begin:6.1f} s] {_shortened(name)}{rest}\n")


class _LineStep(Step):
    """Calls ``report`` with a step's number of units that are done, in words, from time to time."""

    def __init__(self, report: Callable[[str], None], unit: str) -> None:
        self._report = report
        self._unit = unit
        self._done = 0
        self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            self._report(format_amount(self._done, self._unit) if self._unit == BYTES else f"{self._done:,}")


class Bars(Progress):
    """A bar for the step under way, and a line with its duration when it is done: for terminals."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Show a bar; where the step fails or is interrupted, nothing is left of it."""
        begin = time.monotonic()
        name = _shortened(name)
        bar = _open_bar(name, total, unit, self._stream)
        try:
            yield _BarStep(bar.update)
        finally:
            bar.close()
        duration = format_seconds(time.monotonic() - begin)
        amount = f"{format_amount(total, unit)} in " if total is not None else ""
        _write(self._stream, f"{name}: {amount}{duration}\n")

    def write(self, line: str) -> None:
        """Write a line above the bar that is shown."""
        from tqdm import tqdm

        with suppress(OSError):
            tqdm.write(line, file=self._stream or sys.stderr)


class _BarStep(Step):
    def __init__(self, update: Callable[[int], object]) -> None:
        self._update = update

    def advance(self, count: int = 1) -> None:
        self._update(count)


def progress_for(show: bool | Progress | None) -> Progress:
    """Return where to report: bars for True, nothing for False, a ``Progress`` itself.

    None is bars if the `monograph` logger is at INFO or DEBUG.
    """
    if isinstance(show, Progress):
        return show
    return Bars() if show or (show is None and _LOGGER.getEffectiveLevel() in BAR_LEVELS) else SILENT


def format_amount(count: int, unit: str) -> str:
    """Return a number of units in words: "195 texts", "1 text", "91.2 MB"."""
    if unit != BYTES:
        return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {name}"
    return f"{count} bytes"


def format_seconds(seconds: float) -> str:
    """Return a duration in words: "8.4 s", "2 min 13 s", "1 h 02 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _shortened(name: str) -> str:
    return printable(name, _MAX_NAME)


def _write(stream: TextIO | None, line: str) -> None:
    """Write to a stream, by default standard error; one that cannot be written is no reason to end the work."""
    stream = sys.stderr if stream is None else stream
    with suppress(OSError):
        stream.write(line)
        stream.flush()


def _open_bar(name: str, total: int | None, unit: str, stream: TextIO | None) -> Any:
    # An eighth of the time of `import monograph`, and few callers want a bar.
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        # No thread that wakes up to redraw.
        monitor_interval = 0

    of_bytes = unit == BYTES
    return Bar(
        desc=name if total is not None else f"{name}: " if unit else f"{name} ...",
        total=total,
        unit="B" if of_bytes else f" {unit}",
        unit_scale=of_bytes,
        # Without a total there is nothing to draw, and between two updates a clock would stand still.
        bar_format=None if total is not None else "{desc}{n_fmt}{unit}" if unit else "{desc}",
        leave=False,
        file=stream,
        dynamic_ncols=True,
        # Every update may redraw: a slow phase behind a quick one would else be redrawn too rarely.
        miniters=1,
    )
