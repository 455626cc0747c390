"""Throughput and latency, in rounds of all systems."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.progress import SILENT, Progress, Step
from monograph_bench.machine import machine_speed_seconds
from monograph_bench.process import MeasurementError, RequestError, SystemProcess
from monograph_bench.results import Calls, Round, Settings, SystemResult
from monograph_bench.texts import Workload

logger = logging.getLogger(__name__)
# No file's name has a slash.
_TRIAL, _CALLS = "/trial", "/calls"
# Passes with each batch size.
_TRIALS = 2


class Rounds:
    """Rounds of running systems; one that fails is noted with its reason, closed and left out from then on."""

    def __init__(
        self,
        processes: Mapping[str, SystemProcess],
        results: Mapping[str, SystemResult],
        settings: Settings,
        folder: Path,
        progress: Progress = SILENT,
    ) -> None:
        self._processes = dict(processes)
        self._results = results
        self._settings = settings
        self._folder = folder
        self._progress = progress

    def read(self, workload: Workload) -> None:
        """Give every system the texts of a workload."""
        file = self._folder / "texts.json"
        file.write_text(json.dumps(workload.texts), encoding="utf-8")
        for name in self._shuffled(0):
            self._request(name, "read", name=workload.name, file=str(file))

    def choose_batch_sizes(self, sizes: Mapping[str, Sequence[int | None]], workload: Workload) -> None:
        """Choose each system's batch size by the faster of two passes over some texts of a workload."""
        # Evenly spaced: the best batch size for short texts may be the worst for long ones.
        stride = max(1, len(workload.texts) // self._settings.trial_texts)
        self.read(Workload(_TRIAL, workload.texts[::stride]))
        with self._step(f"Choosing batch sizes for {workload.name}") as step:
            for name, choices in sizes.items():
                self._results[name].batch_sizes[workload.name] = self._fastest(name, choices)
                step.advance()

    def padding(self, workload: Workload) -> None:
        """Note the share of padding among the tokens that each system computes, where it is known."""
        for name in self._shuffled(0):
            answer = self._request_optional(name, "padding", name=workload.name)
            if answer is not None and answer["share"] is not None:
                self._results[name].padding[workload.name] = answer["share"]

    def warm_up(self, workload: Workload) -> None:
        """Embed a workload's texts once with every system, and note nothing."""
        with self._step("Warming up") as step:
            for name in self._shuffled(0):
                self._encode(name, workload.name)
                step.advance()

    def vectors(self, workload: Workload) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the vectors of a workload's texts, float32 [n, d], or the scores, [n] or [n, d], of each system."""
        self.read(workload)
        with self._step("Comparing with the reference") as step:
            for name in self._shuffled(0):
                file = self._folder / "vectors.npy"
                details = {"name": workload.name, "batch_size": None, "vectors": str(file)}
                if self._request_optional(name, "encode", **details) is not None:
                    yield name, np.load(file)
                step.advance()

    def throughput(self, workloads: Sequence[Workload]) -> None:
        """Embed every workload once a round with every system."""
        for number in range(self._settings.rounds):
            for workload in workloads:
                with self._round(number, workload.name) as step:
                    for name in self._shuffled(number):
                        one = self._encode(name, workload.name)
                        if one is not None:
                            self._results[name].rounds.setdefault(workload.name, []).append(one)
                        step.advance()

    def latency(self, workload: Workload, sizes: Sequence[int], calls: int, like: str | None = None) -> None:
        """Time ``calls`` calls a round of each size: each in one batch, or in batches of ``like``'s size."""
        self.read(Workload(_CALLS, workload.texts))
        for number in range(self._settings.rounds):
            for size in sizes:
                with self._round(number, f"calls of {size}") as step:
                    for name in self._shuffled(number):
                        before = machine_speed_seconds()
                        batch_size = size if like is None else self._results[name].batch_sizes.get(like)
                        details = {"name": _CALLS, "size": size, "calls": calls, "batch_size": batch_size}
                        answer = self._request(name, "calls", **details)
                        if answer is not None:
                            times = Calls(answer["seconds"], (before + machine_speed_seconds()) / 2)
                            self._results[name].latencies.setdefault(str(size), []).append(times)
                        step.advance()

    def memory(self) -> None:
        """Note the memory of every system, in bytes."""
        for name, process in self._processes.items():
            self._results[name].memory = dataclasses.asdict(process.memory())

    def _round(self, number: int, what: str) -> AbstractContextManager[Step]:
        return self._step(f"Round {number + 1} of {self._settings.rounds}: {what}")

    def _step(self, name: str) -> AbstractContextManager[Step]:
        return self._progress.step(name, len(self._processes), "systems")

    def _shuffled(self, number: int) -> list[str]:
        """Return the running systems in the round's own order: none always follows the same."""
        names = list(self._processes)
        return [names[place] for place in np.random.default_rng(number).permutation(len(names))]

    def _fastest(self, name: str, choices: Sequence[int | None]) -> int | None:
        """Return the batch size of the fastest pass; one that fails is not chosen, and the system goes on."""
        seconds = dict.fromkeys(choices, math.inf)
        # Sizes alternate: a slow phase of the machine is no size's fault.
        for _ in range(_TRIALS if len(choices) > 1 else 0):
            for size in choices:
                if name not in self._processes:
                    continue
                answer = self._request_optional(name, "encode", name=_TRIAL, batch_size=size, vectors=None)
                if answer is not None:
                    seconds[size] = min(seconds[size], answer["seconds"])
        return min(seconds, key=seconds.__getitem__)

    def _encode(self, name: str, workload: str) -> Round | None:
        process = self._processes[name]
        batch_size = self._results[name].batch_sizes.get(workload)
        before = machine_speed_seconds()
        used = process.cpu_seconds()
        answer = self._request(name, "encode", name=workload, batch_size=batch_size, vectors=None)
        if answer is None:
            return None
        used = process.cpu_seconds() - used
        return Round(answer["seconds"], used, (before + machine_speed_seconds()) / 2)

    def _request_optional(self, system: str, do: str, **details: object) -> dict[str, Any] | None:
        """Request something without which a system can still be measured; None where it has no answer."""
        try:
            return self._resumed(system, do, details)
        except RequestError as error:
            logger.info("%s: %s: %s", system, do, error)
        except MeasurementError as error:
            self._lose(system, f"{do}: {error}")
        return None

    def _request(self, system: str, do: str, **details: object) -> dict[str, Any] | None:
        """Request something of a system; None where it failed, which is then left out."""
        try:
            return self._resumed(system, do, details)
        except MeasurementError as error:
            self._lose(system, f"{do}: {error}")
        return None

    def _resumed(self, system: str, do: str, details: Mapping[str, object]) -> dict[str, Any]:
        process = self._processes[system]
        process.resume()
        try:
            return process.request(do, **details)
        finally:
            process.pause()

    def _lose(self, system: str, reason: str) -> None:
        self._results[system].failure = reason
        self._processes.pop(system).close()
