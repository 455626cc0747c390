"""How many processes embed fastest on this machine: measured on texts of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import islice

from monograph.bulk.encoder import Encoder, EncoderOptions
from monograph.bulk.readers import open_table
from monograph.bulk.rows import Selection, select
from monograph.bulk.sources import Source
from monograph.bulk.workers import Failure, Workers, share_cpus
from monograph.cpu import available_cpus
from monograph.errors import MonographError

logger = logging.getLogger(__name__)
_SECONDS = 3.0
_MAX_TEXTS = 2048
# A run whose first tables cannot be read has other problems than its speed.
_MAX_SOURCES = 8
# A process more takes memory: it is not worth a difference that may be noise.
_MIN_GAIN = 1.03


def fastest_workers(options: EncoderOptions, sources: Sequence[Source], selection: Selection) -> int:
    """Return the number of processes that embed some of the texts fastest: one with all cores, or one a core.

    Raises:
        MonographError: the model cannot be opened.

    """
    cpus = available_cpus()
    # One table is embedded by one process.
    texts = _sample(sources, selection) if cpus > 1 and len(sources) > 1 else []
    if not texts:
        return 1
    rates = {}
    for count in (1, cpus):
        with Workers(options, share_cpus(count)) as workers:
            outcomes = list(workers.map(_rate, [texts] * count))
        if any(isinstance(outcome.result, Failure) for outcome in outcomes):
            continue
        rates[count] = sum(outcome.result for outcome in outcomes if not isinstance(outcome.result, Failure))
    if not rates:
        raise MonographError("no number of workers could embed a sample of the texts: choose one with --workers")
    best = max(rates, key=lambda count: rates[count])
    if rates.get(1, 0) * _MIN_GAIN >= rates[best]:
        best = 1
    measured = ", ".join(f"{count} x {cpus // count} threads {rate:,.0f} texts/s" for count, rate in rates.items())
    logger.info("%d workers: %s", best, measured)
    return best


def _sample(sources: Sequence[Source], selection: Selection) -> list[str]:
    """Return some texts of the first source that can be read."""
    for source in sources[:_MAX_SOURCES]:
        try:
            with open_table(source, selection.columns, selection.read_types) as table:
                carried = selection.carried_schema(table.schema, str(source.path))
                for block in islice(table.blocks, 1):
                    return select(block, selection, carried, str(source.path)).texts[:_MAX_TEXTS]
        except MonographError:
            # It is named when it is embedded.
            continue
    return []


def _rate(texts: list[str], encoder: Encoder) -> float:
    """Return texts per second, after a first batch that pays for what every first one does."""
    encoder.encode(texts[:64])
    begin, done = time.monotonic(), 0
    while (seconds := time.monotonic() - begin) < _SECONDS:
        encoder.encode(texts)
        done += len(texts)
    return done / seconds
