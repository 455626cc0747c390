"""The figures of a report, computed from raw rounds: medians, spreads, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monograph_bench.profiles import TaskProfile, profile_of
from monograph_bench.results import Results, Round, SystemResult

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and the highest of its rounds."""

    median: float
    low: float
    high: float


def profile_for(results: Results) -> TaskProfile:
    """Return the profile of a run's task.

    Raises:
        InputError: this release does not know it.

    """
    return profile_of(results.task, "the run")


def texts_per_second(results: Results, system: SystemResult, workload: str) -> Spread | None:
    """Return the texts or pairs a second over the rounds, None where there are none."""
    rounds = system.rounds.get(workload)
    return None if not rounds else _spread([results.workloads[workload].texts / one.seconds for one in rounds])


def start_seconds(system: SystemResult) -> Spread | None:
    """Return the seconds from the start of a process to its first vector or score, None where there are none."""
    return _spread([one.seconds for one in system.starts]) if system.starts else None


def milliseconds(system: SystemResult, size: str) -> dict[int, float] | None:
    """Return the percentiles of the calls with ``size`` texts or pairs, in ms, None where there were none."""
    seconds = [one for calls in system.latencies.get(size, ()) for one in calls.seconds]
    if not seconds:
        return None
    return dict(zip(PERCENTILES, (np.percentile(seconds, PERCENTILES) * 1e3).tolist(), strict=True))


def cores_used(rounds: Sequence[Round]) -> float:
    """Return the CPU time of rounds by their wall-clock time."""
    return sum(one.cpu_seconds for one in rounds) / sum(one.seconds for one in rounds)


def ratio(system: SystemResult, base: SystemResult, workload: str) -> float | None:
    """Return how many times as fast as another a system is: the median of the rounds' own ratios.

    A round's systems ran one after the other, so a slow phase of the machine is in both. One that failed has fewer
    rounds, the first ones: a system never comes back.
    """
    pairs = list(zip(system.rounds.get(workload, ()), base.rounds.get(workload, ()), strict=False))
    return float(np.median([other.seconds / own.seconds for own, other in pairs])) if pairs else None


def base_of(results: Results) -> SystemResult | None:
    """Return the system that others are compared with: torch at float32, or else the slowest on the first workload."""
    workload = next(iter(results.workloads))
    ran = [system for system in results.systems if system.rounds.get(workload) and not system.failure]
    named = [system for system in ran if system.name == "sentence-transformers"]
    return max(
        named or ran, key=lambda system: np.median([one.seconds for one in system.rounds[workload]]), default=None
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.median(values)), min(values), max(values))
