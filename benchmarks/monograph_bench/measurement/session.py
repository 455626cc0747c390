"""A whole run: start, choose batch sizes, compare, then measure in rounds."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle
from monograph.errors import MonographError
from monograph.progress import SILENT, Progress
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.sts import StsPairs, correlations
from monograph_bench.machine import describe_machine
from monograph_bench.measurement.machine_rates import MachineRates, machine_rates
from monograph_bench.measurement.reference import Reference, read_reference
from monograph_bench.measurement.roofline import count_weights, count_work
from monograph_bench.measurement.speed import Rounds
from monograph_bench.measurement.start import start_all, time_starts
from monograph_bench.profiles import TaskProfile
from monograph_bench.results import Results, Settings, SystemResult, WorkloadFacts
from monograph_bench.systems import System, Unavailable, common_profile, token_lengths
from monograph_bench.texts import Workload

logger = logging.getLogger(__name__)
# No file's name has a slash.
_STS = "/sts"
NOT_TIMED = [
    "the first start of each system, which fills caches of the file system and of compiled models",
    "loading, in throughput and latency",
    "one pass over the first workload with every system before the first round",
    "reading the texts and sending them to the system's process",
    "the choice of batch sizes",
    "five calls before those that are timed",
]


@dataclass(frozen=True)
class Plan:
    """What a run measures: systems, by name, texts, and on which CPUs; ``command`` is the command line.

    ``sts`` are pairs of sentences to score every system with, from the file ``sts_name``.
    """

    systems: Mapping[str, System | Unavailable]
    bundles: Mapping[str, Bundle]
    workloads: Sequence[Workload]
    calls: Workload
    cpus: Sequence[int]
    settings: Settings
    command: Sequence[str] = ()
    sts: StsPairs | None = None
    sts_name: str = ""

    @property
    def profile(self) -> TaskProfile:
        """The profile of the bundles' task."""
        return common_profile(self.bundles)

    @property
    def calls_per_round(self) -> int:
        """Single calls of each size."""
        return self.settings.calls or self.profile.calls_per_round


def run_session(plan: Plan, progress: Progress = SILENT) -> Results:
    """Measure everything that the plan has and return the results; a system that fails is a result with its reason.

    Each step is reported to ``progress``.

    Raises:
        MonographError: no system could be measured; all reasons are in it.

    """
    results = {
        name: SystemResult(name, system.kind, usage=system.usage)
        if isinstance(system, System)
        else SystemResult(name, system.kind, failure=system.reason)
        for name, system in plan.systems.items()
    }
    reference = read_reference(plan.bundles)
    with tempfile.TemporaryDirectory(prefix="monograph-bench-") as folder:
        _prepare(plan, results, reference, Path(folder), progress)
        _measure(plan, results, Path(folder), progress)
    if not any(result.rounds for result in results.values()):
        reasons = "; ".join(f"{result.name}: {result.failure}" for result in results.values())
        raise MonographError(f"nothing could be measured: {reasons}")
    with progress.step("Measuring the machine's matrix rate and memory bandwidth"):
        rates = _machine_rates(plan.cpus)
    _add_roofline(plan, results, rates)
    settings = dataclasses.asdict(plan.settings) | {
        "calls": plan.calls_per_round,
        "call_sizes": list(plan.profile.call_sizes),
        "threads": len(plan.cpus),
        "command": list(plan.command),
    }
    return Results(
        machine=describe_machine(),
        settings=settings,
        workloads=_facts(plan),
        rates=dict(rates.products),
        memory_bandwidth=rates.memory_bandwidth,
        reference="none: no bundle here holds the reference of the unchanged model"
        if reference is None
        else reference.description,
        not_timed=NOT_TIMED,
        systems=list(results.values()),
        task=plan.profile.task.name,
        sts="" if plan.sts is None else f"{plan.sts_name}, {len(plan.sts.gold):,} pairs",
    )


def _runnable(plan: Plan) -> list[System]:
    return [system for system in plan.systems.values() if isinstance(system, System)]


def _prepare(
    plan: Plan,
    results: Mapping[str, SystemResult],
    reference: Reference | None,
    folder: Path,
    progress: Progress,
) -> None:
    """Choose batch sizes, note padding and compare outputs, in processes of their own.

    Batches that are larger than those of the rounds leave memory behind.
    """
    systems = _runnable(plan)
    with ExitStack() as stack:
        running = start_all(systems, results, plan.cpus, plan.settings.timeout, stack, progress)
        rounds = Rounds(running, results, plan.settings, folder, progress)
        for workload in plan.workloads:
            rounds.choose_batch_sizes({system.name: system.batch_sizes for system in systems}, workload)
            rounds.read(workload)
            rounds.padding(workload)
        if reference is not None:
            comparison = plan.profile.comparison
            for name, outputs in rounds.vectors(reference.texts):
                setattr(results[name], comparison.field, comparison.measure(outputs, reference))
        if plan.sts is not None:
            for name, vectors in rounds.vectors(Workload(_STS, (*plan.sts.first, *plan.sts.second))):
                results[name].sts = _spearman(vectors, plan.sts)


def _spearman(vectors: NDArray[np.float32], pairs: StsPairs) -> float | None:
    """Return Spearman's correlation of pairs, whose first texts come first, None where it is not defined."""
    first, second = np.split(vectors, 2)
    try:
        return correlations(first, second, pairs.gold, "cosine")["spearman_cosine"]
    except EvaluationError as error:
        logger.warning("%s", error)
        return None


def _measure(plan: Plan, results: Mapping[str, SystemResult], folder: Path, progress: Progress) -> None:
    settings, systems = plan.settings, _runnable(plan)
    with ExitStack() as stack:
        running = time_starts(systems, results, plan.cpus, settings.timeout, settings.starts, stack, progress)
        rounds = Rounds(running, results, settings, folder, progress)
        for workload in plan.workloads:
            rounds.read(workload)
        rounds.warm_up(plan.workloads[0])
        rounds.throughput(plan.workloads)
        # A call that is larger than a batch is cut as the passes are.
        like = None if plan.profile.call_is_one_batch else plan.workloads[0].name
        rounds.latency(plan.calls, plan.profile.call_sizes, plan.calls_per_round, like)
        rounds.memory()


def _machine_rates(cpus: Sequence[int]) -> MachineRates:
    try:
        return machine_rates(cpus)
    except MonographError as error:
        # A side figure: everything else can be measured without it.
        logger.warning("%s", error)
        return MachineRates()


def _facts(plan: Plan) -> dict[str, WorkloadFacts]:
    """Return the workloads' sizes, by the first bundle's tokenizer."""
    first = next(iter(plan.bundles.values()))
    facts = {}
    for workload in plan.workloads:
        lengths = token_lengths(first, workload.texts)
        facts[workload.name] = WorkloadFacts(len(lengths), int(lengths.sum()), int(lengths.max()))
    return facts


def _add_roofline(plan: Plan, results: Mapping[str, SystemResult], rates: MachineRates) -> None:
    """Note each bundle's share of the machine's own rates: of its matrix products, and of its memory bandwidth."""
    for bundle in plan.bundles.values():
        # Of a model with a Router the first, which texts without a task go through.
        graph = bundle.manifest.graphs[0]
        try:
            work, weights = count_work(bundle.path / graph.file), count_weights(bundle.path / graph.file)
        except MonographError as error:
            # A side figure, like the rates.
            logger.warning("%s", error)
            continue
        lengths = {workload.name: token_lengths(bundle, workload.texts) for workload in plan.workloads}
        for name, system in plan.systems.items():
            if isinstance(system, Unavailable) or system.options.get("bundle") != str(bundle.path):
                continue
            result = results[name]
            computed = result.described.get("compute_dtype", "")
            dtype = "int8" if graph.precision == "int8" else computed
            for workload, rounds in result.rounds.items():
                if dtype in rates.products:
                    seconds = float(np.median([one.seconds for one in rounds]))
                    result.roofline[workload] = work.of(lengths[workload]) / seconds / rates.products[dtype]
            if plan.profile.call_is_one_batch:
                _add_bandwidth(result, weights.read_at(computed), rates.memory_bandwidth)


def _add_bandwidth(result: SystemResult, weight_bytes: int, bandwidth: float | None) -> None:
    """Note the share of the memory bandwidth at which a call reads the weights, once for all of its texts."""
    result.weight_bytes = weight_bytes
    for size, rounds in result.latencies.items():
        if bandwidth is not None:
            seconds = float(np.median([one for calls in rounds for one in calls.seconds]))
            result.bandwidth[size] = weight_bytes / seconds / bandwidth
