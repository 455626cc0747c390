"""Throughput and latency, in rounds in which every system has its turn."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph_bench.measurement.settings import Settings
from monograph_bench.measurement.yardstick import yardstick_seconds
from monograph_bench.process import MeasurementError, SystemProcess
from monograph_bench.results import Calls, Round, SystemResult
from monograph_bench.texts import Workload

logger = logging.getLogger(__name__)
_TRIAL = "trial"
_CALLS = "calls"


class Rounds:
    """Running systems that take turns; one that fails is noted with its reason, closed and left out from then on."""

    def __init__(
        self,
        processes: Mapping[str, SystemProcess],
        results: Mapping[str, SystemResult],
        settings: Settings,
        folder: Path,
    ) -> None:
        self._processes = dict(processes)
        self._results = results
        self._settings = settings
        self._folder = folder

    def read(self, workloads: Sequence[Workload]) -> None:
        """Give every system the texts."""
        for workload in workloads:
            file = self._folder / f"{len(list(self._folder.iterdir()))}.json"
            file.write_text(json.dumps(workload.texts), encoding="utf-8")
            for name in list(self._processes):
                self._turn(name, "read", {"name": workload.name, "file": str(file)})

    def choose_batch_sizes(self, sizes: Mapping[str, Sequence[int | None]], workload: Workload) -> None:
        """Find each system's best batch size by the faster of two passes over some texts of a workload."""
        # Evenly drawn: a batch size that is best for short texts may be worst for long ones.
        step = max(1, len(workload.texts) // self._settings.trial_texts)
        self.read([Workload(_TRIAL, workload.texts[::step])])
        for name, choices in sizes.items():
            best = choices[0]
            if len(choices) > 1:
                seconds = {size: self._faster_of_two(name, size) for size in choices}
                best = min(seconds, key=seconds.__getitem__)
            self._results[name].batch_size = best

    def _faster_of_two(self, name: str, batch_size: int | None) -> float:
        passes = [self._encode(name, _TRIAL, batch_size) for _ in range(2)]
        return min((one.seconds for one in passes if one is not None), default=math.inf)

    def padding(self, workloads: Sequence[Workload]) -> None:
        """Ask every system for the share of padding among the tokens it computes, and note what is known."""
        for workload in workloads:
            for name in list(self._processes):
                answer = self._turn(name, "padding", {"name": workload.name})
                if answer is not None and answer["share"] is not None:
                    self._results[name].padding[workload.name] = answer["share"]

    def vectors(self, workload: Workload) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of a workload's texts by system, float32 [n, d]; this pass is not timed."""
        found = {}
        for name in list(self._processes):
            file = self._folder / "vectors.npy"
            if self._encode(name, workload.name, self._results[name].batch_size, file) is not None:
                found[name] = np.load(file)
        return found

    def throughput(self, workloads: Sequence[Workload]) -> None:
        """Embed every workload once a round with every system."""
        for number in range(self._settings.rounds):
            for workload in workloads:
                logger.info("round %d: %s", number + 1, workload.name)
                for name in self._in_turn(number):
                    result = self._results[name]
                    one = self._encode(name, workload.name, result.batch_size)
                    if one is not None:
                        result.rounds.setdefault(workload.name, []).append(one)

    def latency(self, workload: Workload) -> None:
        """Time single calls of a few texts each."""
        self.read([Workload(_CALLS, workload.texts)])
        for number in range(self._settings.rounds):
            for size in self._settings.call_sizes:
                for name in self._in_turn(number):
                    asked = {"name": _CALLS, "size": size, "calls": self._settings.calls}
                    before = yardstick_seconds()
                    answer = self._turn(name, "calls", asked)
                    if answer is not None:
                        calls = Calls(answer["seconds"], (before + yardstick_seconds()) / 2)
                        self._results[name].latencies.setdefault(str(size), []).append(calls)

    def memory(self) -> None:
        """Note the memory of every system, in bytes."""
        for name, process in self._processes.items():
            used = process.memory()
            self._results[name].memory = {
                "resident": used.resident,
                "anonymous": used.anonymous,
                "peak": used.peak,
            }

    def _in_turn(self, number: int) -> list[str]:
        """Return the running systems, each round beginning with another: none always follows the same."""
        names = list(self._processes)
        start = number % max(1, len(names))
        return names[start:] + names[:start]

    def _encode(self, name: str, workload: str, batch_size: int | None, vectors: Path | None = None) -> Round | None:
        process = self._processes.get(name)
        if process is None:
            return None
        before = yardstick_seconds()
        used = process.cpu_seconds()
        asked = {"name": workload, "batch_size": batch_size, "vectors": None if vectors is None else str(vectors)}
        answer = self._turn(name, "encode", asked)
        if answer is None:
            return None
        used = process.cpu_seconds() - used
        return Round(answer["seconds"], used, (before + yardstick_seconds()) / 2)

    def _turn(self, name: str, do: str, details: Mapping[str, object]) -> dict[str, Any] | None:
        """Wake a system for one request; None where it failed."""
        process = self._processes[name]
        process.resume()
        try:
            return process.ask(do, **details)
        except MeasurementError as error:
            self._results[name].failure = f"{do}: {error}"
            process.close()
            del self._processes[name]
            return None
        finally:
            if name in self._processes:
                process.pause()
