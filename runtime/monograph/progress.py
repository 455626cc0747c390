"""The progress bar of a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

logger = logging.getLogger(__name__)


@contextmanager
def progress(total: int, show: bool | None, what: str) -> Iterator[Callable[[int], object]]:
    """Show a bar over ``total`` of ``what`` if wanted, and give what tells it that some are done."""
    # The rule of SentenceTransformer.encode: unless told, show the bar to those who asked for INFO or more.
    shown = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG) if show is None else show
    if not shown:
        # Not a disabled bar: tqdm makes a semaphore, which a worker of multiprocessing leaves behind with a warning.
        yield lambda _: None
        return
    with tqdm(total=total, desc=what.capitalize(), unit=f" {what}") as bar:
        yield bar.update
