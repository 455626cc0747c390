"""Start systems, and note how long each takes to its first vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from monograph.progress import SILENT, Progress, Step
from monograph_bench.machine import machine_speed_seconds
from monograph_bench.process import MeasurementError, SystemProcess
from monograph_bench.results import Start, SystemResult
from monograph_bench.systems import System


def start_all(
    systems: Sequence[System],
    results: Mapping[str, SystemResult],
    cpus: Sequence[int],
    timeout: float,
    stack: ExitStack,
    progress: Progress = SILENT,
) -> dict[str, SystemProcess]:
    """Start the systems one after the other and return them paused, by name; the stack closes them.

    One that cannot be loaded is noted with its reason and left out.
    """
    with progress.step("Starting the systems", len(systems), "systems") as step:
        return {name: process for name, process, _ in _started(systems, results, cpus, timeout, stack, step)}


def time_starts(
    systems: Sequence[System],
    results: Mapping[str, SystemResult],
    cpus: Sequence[int],
    timeout: float,
    times: int,
    stack: ExitStack,
    progress: Progress = SILENT,
) -> dict[str, SystemProcess]:
    """Start all systems in several rounds, note the seconds of each start, and return those of the last round."""
    running: dict[str, SystemProcess] = {}
    for number in range(times):
        title = f"Start {number + 1} of {times}"
        with ExitStack() as last, progress.step(title, len(systems), "systems") as step:
            running = {}
            # In the round's own order: none always follows the same.
            order = [systems[place] for place in np.random.default_rng(number).permutation(len(systems))]
            for name, process, start in _started(order, results, cpus, timeout, last, step):
                results[name].starts.append(start)
                running[name] = process
            if number == times - 1:
                stack.enter_context(last.pop_all())
    return running


def _started(
    systems: Sequence[System],
    results: Mapping[str, SystemResult],
    cpus: Sequence[int],
    timeout: float,
    stack: ExitStack,
    step: Step,
) -> Iterator[tuple[str, SystemProcess, Start]]:
    for system in systems:
        result = results[system.name]
        if result.failure:
            step.advance()
            continue
        before = machine_speed_seconds()
        try:
            process = SystemProcess(system, cpus, timeout)
        except MeasurementError as error:
            result.failure = str(error)
            continue
        finally:
            step.advance()
        stack.callback(process.close)
        process.pause()
        result.described = process.described
        yield (
            system.name,
            process,
            Start(process.seconds_to_first_vector, (before + machine_speed_seconds()) / 2),
        )
