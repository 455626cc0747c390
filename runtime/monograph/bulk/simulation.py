"""Many nodes that embed tables, some of them slow and some lost: how long it takes them all."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """Nodes, the processes on each, and tables, with times in seconds.

    A table takes a process ``table_seconds`` on average; the standard deviation of the logarithm of this time is
    ``table_spread`` from table to table and ``node_spread`` from node to node. Each node is lost
    ``losses_per_node_hour`` times an hour, with the tables that its processes are at, and replaced after
    ``replacement_seconds``.
    """

    nodes: int
    processes: int
    tables: int
    table_seconds: float
    table_spread: float
    node_spread: float
    losses_per_node_hour: float
    replacement_seconds: float


@dataclass(frozen=True)
class Simulated:
    """What a simulated run took: seconds, the share of the computing that was lost with nodes, and tables lost so."""

    seconds: float
    lost_share: float
    lost_tables: int


def simulate(cluster: Cluster, seed: int) -> Simulated:
    """Return one simulated run: a process that is free takes the next table, and a lost table is the next."""
    random = np.random.default_rng(seed)
    speeds = _spread(random, cluster.node_spread, cluster.nodes)
    times = cluster.table_seconds * _spread(random, cluster.table_spread, cluster.tables)
    losses = _Losses(random, cluster)
    free = [(0.0, node) for node in range(cluster.nodes) for _ in range(cluster.processes)]
    waiting = list(times[::-1])
    # Tables that are lost with their nodes, by when that is noticed.
    lost: list[tuple[float, float]] = []
    end = wasted = 0.0
    lost_tables = 0
    while waiting or lost:
        now, node = heapq.heappop(free)
        if lost and (lost[0][0] <= now or not waiting):
            noticed, work = heapq.heappop(lost)
            now = max(now, noticed)
        else:
            work = waiting.pop()
        finish = now + work * speeds[node]
        loss = losses.next_after(node, now)
        if loss < finish:
            lost_tables += 1
            wasted += loss - now
            heapq.heappush(lost, (loss, work))
            heapq.heappush(free, (loss + cluster.replacement_seconds, node))
        else:
            end = max(end, finish)
            heapq.heappush(free, (finish, node))
    useful = float(times.sum())
    return Simulated(end, wasted / (useful + wasted), lost_tables)


class _Losses:
    """When each node is lost."""

    def __init__(self, random: np.random.Generator, cluster: Cluster) -> None:
        self._random = random
        self._mean = _SECONDS_PER_HOUR / cluster.losses_per_node_hour if cluster.losses_per_node_hour else np.inf
        self._next = self._mean * random.exponential(1.0, cluster.nodes)

    def next_after(self, node: int, now: float) -> float:
        """Return when a node is lost next; times of calls ascend."""
        while self._next[node] < now:
            self._next[node] += self._mean * self._random.exponential()
        return float(self._next[node])


def _spread(random: np.random.Generator, spread: float, count: int) -> NDArray[np.float64]:
    """Return factors with a mean of 1 whose logarithms have a standard deviation of ``spread``, float64 [count]."""
    return random.lognormal(-(spread**2) / 2, spread, count)
