"""How far a command has come, on standard error; standard output is for results alone."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from monograph.errors import printable
from monograph.progress import SILENT, Bars, Lines, Progress, format_seconds


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="do not report progress on standard error")


@contextmanager
def reported(arguments: argparse.Namespace) -> Iterator[Progress]:
    """Give where a command reports its steps, and at the end say how long it took, unless ``--quiet`` is given.

    On a terminal the steps are bars, elsewhere and between the lines of ``--verbose`` a line each.
    """
    if arguments.quiet:
        yield SILENT
        return
    begin = time.monotonic()
    if sys.stderr.isatty() and not arguments.verbose:
        bars = Bars()
        with _warnings_above(bars):
            yield bars
    else:
        yield Lines()
    # Behind the results, also where both streams are one.
    sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.write(f"finished in {format_seconds(time.monotonic() - begin)}\n")


@contextmanager
def _warnings_above(bars: Bars) -> Iterator[None]:
    """Have what is logged as a warning written above the bar instead of through it."""
    handler = _AboveBars(bars)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


class _AboveBars(logging.Handler):
    def __init__(self, bars: Bars) -> None:
        super().__init__(logging.WARNING)
        self._bars = bars

    def emit(self, record: logging.LogRecord) -> None:
        self._bars.write(printable(self.format(record)))
