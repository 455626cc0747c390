"""What became slower, or larger, from one run to another, beyond noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

from monograph.errors import InputError
from monograph_bench.results import Results, SystemResult

# Less is not worth a word, whatever the statistics say.
LEAST_CHANGE = 0.07
# One-sided; with five rounds each the smallest there is is 0.004.
_SIGNIFICANCE = 0.01
FEWEST_ROUNDS = 5
# Anonymous memory is nearly the same at every run.
_LEAST_GROWTH = 0.10


@dataclass(frozen=True)
class Change:
    """A figure that became worse: ``factor`` times as many seconds, or bytes, as before."""

    system: str
    what: str
    factor: float = math.inf

    def __str__(self) -> str:
        """Return the change in words."""
        return f"{self.system}: {self.what}" + (
            "" if math.isinf(self.factor) else f" {self.factor:.2f} times what it was"
        )


def compare(old: Results, new: Results) -> list[Change]:
    """Return what became worse: times by the Mann-Whitney U test over rounds, each measured by the yardstick beside it.

    Raises:
        InputError: the runs cannot be compared: other machines, threads, texts or systems, or fewer than five rounds.

    """
    _check(old, new)
    before = {system.name: system for system in old.systems}
    pairs = [(before[system.name], system) for system in new.systems if system.name in before]
    return [change for one, other in pairs for change in _changes(one, other)]


def _changes(old: SystemResult, new: SystemResult) -> Iterator[Change]:
    if new.failure and not old.failure:
        yield Change(new.name, f"failed, as it did not before: {new.failure}")
    for workload, rounds in new.rounds.items():
        earlier = [one.seconds / one.yardstick_seconds for one in old.rounds.get(workload, ())]
        factor = _slower(earlier, [one.seconds / one.yardstick_seconds for one in rounds])
        if factor is not None:
            yield Change(new.name, f"time for {workload}", factor)
    for size, calls in new.latencies.items():
        earlier = [float(np.median(one.seconds)) / one.yardstick_seconds for one in old.latencies.get(size, ())]
        factor = _slower(earlier, [float(np.median(one.seconds)) / one.yardstick_seconds for one in calls])
        if factor is not None:
            yield Change(new.name, f"median time of a call of {size}", factor)
    was, now = old.memory.get("anonymous"), new.memory.get("anonymous")
    if was and now and now > was * (1 + _LEAST_GROWTH):
        yield Change(new.name, "anonymous memory", now / was)


def _slower(old: Sequence[float], new: Sequence[float]) -> float | None:
    """Return how many times as long it takes, None where that is within noise or one of the two was not measured."""
    if not old or not new:
        return None
    factor = float(np.median(new) / np.median(old))
    if factor < 1 + LEAST_CHANGE:
        return None
    return factor if mannwhitneyu(new, old, alternative="greater").pvalue < _SIGNIFICANCE else None


def _check(old: Results, new: Results) -> None:
    for key in ("cpu", "available_cpus"):
        if old.machine[key] != new.machine[key]:
            raise InputError(f"the runs are of different machines: {old.machine[key]} and {new.machine[key]}")
    if old.settings["threads"] != new.settings["threads"]:
        raise InputError(f"the runs had {old.settings['threads']} and {new.settings['threads']} threads")
    shared = old.workloads.keys() & new.workloads.keys()
    if not shared or any(old.workloads[name] != new.workloads[name] for name in shared):
        raise InputError("the runs embedded different texts: give both the same --mix, --count and --texts")
    if not {system.name for system in old.systems} & {system.name for system in new.systems}:
        raise InputError("the runs have no system in common")
    for which, results in (("old", old), ("new", new)):
        if results.settings["rounds"] < FEWEST_ROUNDS:
            raise InputError(
                f"the {which} run has {results.settings['rounds']} rounds: a change cannot be told from noise with "
                f"fewer than {FEWEST_ROUNDS}"
            )
