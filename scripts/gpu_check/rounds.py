"""Interleaved rounds: every system once, again and again, so that what changes on the machine changes for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from gpu_check.record import Record

_LEAST_ROUNDS = 2


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interleave(
    calls: Mapping[str, Callable[[], object]], rounds: int, record: Record, seconds: float
) -> dict[str, list[float]]:
    """Return the seconds of each call in each round; further rounds begin only within ``seconds``.

    The order is reversed in every other round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + min(seconds, record.seconds_left)
    for index in range(rounds):
        if index >= _LEAST_ROUNDS and time.monotonic() > end:
            break
        for name in list(calls)[:: 1 if index % 2 == 0 else -1]:
            times[name].append(seconds_of(calls[name]))
    return times


def rates(times: Mapping[str, list[float]], texts: int, tokens: int) -> dict[str, dict[str, Any]]:
    """Return for each system its texts/s and tokens/s by the median of its rounds, and the seconds of each round."""
    return {
        name: {
            "texts_per_second": round(texts / statistics.median(values), 1),
            "tokens_per_second": round(tokens / statistics.median(values)),
            "seconds": [round(value, 5) for value in values],
        }
        for name, values in times.items()
        if values
    }


def ratio_to_best(figures: Mapping[str, Mapping[str, Any]], system: str) -> float | None:
    """Return how many times the texts/s of the fastest other system one has."""
    others = [one["texts_per_second"] for name, one in figures.items() if name != system]
    return round(figures[system]["texts_per_second"] / max(others), 3) if others and system in figures else None
