"""What became slower, or larger, from one run to another, beyond noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

from monograph.errors import InputError
from monograph_bench.measurement.reference import Comparison
from monograph_bench.report.figures import profile_for
from monograph_bench.results import Calls, Results, Round, Start, SystemResult

# Less is not reported, whatever the statistics say.
MIN_CHANGE = 0.10
# One-sided; with five rounds each the smallest there is is 0.004.
_SIGNIFICANCE = 0.01
MIN_ROUNDS = 5
# Anonymous memory is nearly the same at every run.
_MIN_GROWTH = 0.10
# Starts are few and read files: all of the new ones have to be slower than all of the old ones, and by more.
_MIN_CHANGE_OF_STARTS = 0.25
# The slowest calls of a round are few as well.
_MIN_CHANGE_OF_P95 = 0.20


@dataclass(frozen=True)
class Change:
    """A figure that became worse: ``factor`` times as many seconds, or bytes, as before, where it is one of these."""

    system: str
    what: str
    factor: float | None = None

    def __str__(self) -> str:
        """Describe the change."""
        return f"{self.system}: {self.what}" + ("" if self.factor is None else f" {self.factor:.2f} times what it was")


def compare(old: Results, new: Results) -> list[Change]:
    """Return what became worse: times, relative to the machine speed, by the Mann-Whitney U test over rounds.

    Raises:
        InputError: the runs cannot be compared: other machines, threads, texts or systems, or fewer than five rounds.

    """
    _check(old, new)
    before = {system.name: system for system in old.systems}
    pairs = [(before[system.name], system) for system in new.systems if system.name in before]
    comparison = profile_for(new).comparison
    return [change for one, other in pairs for change in _changes(one, other, comparison)]


def uncompared(old: Results, new: Results) -> list[str]:
    """Describe the systems and mixes that only one of two runs has."""
    before, after = ({system.name for system in run.systems} | run.workloads.keys() for run in (old, new))
    lines = [f"{name}: only in the old run" for name in sorted(before - after)]
    return lines + [f"{name}: only in the new run" for name in sorted(after - before)]


def _changes(old: SystemResult, new: SystemResult, comparison: Comparison) -> Iterator[Change]:
    if new.failure and not old.failure:
        yield Change(new.name, f"failed, as it did not before: {new.failure}")
    for workload, rounds in new.rounds.items():
        times = _relative(old.rounds.get(workload, ())), _relative(rounds)
        if factor := _slower(*times, MIN_CHANGE):
            yield Change(new.name, f"time for {workload}", factor)
    for size, calls in new.latencies.items():
        for percentile, min_change in ((50, MIN_CHANGE), (95, _MIN_CHANGE_OF_P95)):
            times = _percentiles(old.latencies.get(size, ()), percentile), _percentiles(calls, percentile)
            if factor := _slower(*times, min_change):
                yield Change(new.name, f"p{percentile} of a call of {size}", factor)
    if factor := _slower_start(_relative(old.starts), _relative(new.starts)):
        yield Change(new.name, "start to the first vector", factor)
    was, now = old.memory.get("anonymous"), new.memory.get("anonymous")
    if was and now and now > was * (1 + _MIN_GROWTH):
        yield Change(new.name, "anonymous memory", now / was)
    if loss := comparison.describe_change(old, new):
        yield Change(new.name, loss)


def _relative(times: Sequence[Round | Start]) -> list[float]:
    return [one.seconds / one.machine_speed_seconds for one in times]


def _percentiles(rounds: Sequence[Calls], percentile: int) -> list[float]:
    return [float(np.percentile(one.seconds, percentile)) / one.machine_speed_seconds for one in rounds]


def _slower(old: Sequence[float], new: Sequence[float], min_change: float) -> float | None:
    """Return how many times as long it takes, None where that is within noise or one of the two was not measured."""
    if not old or not new:
        return None
    factor = float(np.median(new) / np.median(old))
    if factor < 1 + min_change:
        return None
    return factor if mannwhitneyu(new, old, alternative="greater").pvalue < _SIGNIFICANCE else None


def _slower_start(old: Sequence[float], new: Sequence[float]) -> float | None:
    if not old or not new or min(new) <= max(old):
        return None
    factor = float(np.median(new) / np.median(old))
    return factor if factor >= 1 + _MIN_CHANGE_OF_STARTS else None


def _check(old: Results, new: Results) -> None:
    for key in ("cpu", "available_cpus"):
        if old.machine[key] != new.machine[key]:
            raise InputError(f"the runs are of different machines: {old.machine[key]} and {new.machine[key]}")
    if old.settings["threads"] != new.settings["threads"]:
        raise InputError(f"the runs had {old.settings['threads']} and {new.settings['threads']} threads")
    if old.task != new.task:
        raise InputError(f"the runs are of different tasks: {old.task} and {new.task}")
    shared = old.workloads.keys() & new.workloads.keys()
    if not shared or any(old.workloads[name] != new.workloads[name] for name in shared):
        raise InputError("the runs embedded different texts: give both the same --mix, --count and --texts")
    if not {system.name for system in old.systems} & {system.name for system in new.systems}:
        raise InputError("the runs have no system in common")
    for which, results in (("old", old), ("new", new)):
        if results.settings["rounds"] < MIN_ROUNDS:
            raise InputError(
                f"the {which} run has {results.settings['rounds']} rounds: a change cannot be told from noise with "
                f"fewer than {MIN_ROUNDS}"
            )
