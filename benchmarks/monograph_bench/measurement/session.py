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

from monograph.bundle import Bundle
from monograph.errors import MonographError
from monograph_bench.bundles import ADAPTER, token_lengths
from monograph_bench.machine import describe_machine
from monograph_bench.measurement.matrix_rate import matrix_rates
from monograph_bench.measurement.reference import Reference, cosines, reference_of
from monograph_bench.measurement.roofline import count_work
from monograph_bench.measurement.settings import Settings
from monograph_bench.measurement.speed import Rounds
from monograph_bench.measurement.start import start_all, time_starts
from monograph_bench.results import Results, SystemResult, WorkloadFacts
from monograph_bench.systems import System
from monograph_bench.texts import Workload

logger = logging.getLogger(__name__)
NOT_TIMED = [
    "the first start of each system, which fills caches of the file system and of compiled models",
    "loading, in throughput and latency",
    "one pass over the probes with every system before the first round",
    "reading the texts and sending them to the system's process",
    "the choice of batch sizes",
]


@dataclass(frozen=True)
class Plan:
    """What a run measures: systems (or the reason why one cannot be), texts, and on which CPUs."""

    systems: Mapping[str, System | str]
    bundles: Mapping[str, Bundle]
    workloads: Sequence[Workload]
    calls: Workload
    cpus: Sequence[int]
    settings: Settings


def run_session(plan: Plan) -> Results:
    """Measure everything that the plan has and return the results; a system that fails is a result with its reason.

    Raises:
        MonographError: no system could be measured; all reasons are in it.

    """
    results = {
        name: SystemResult(name, kind=_kind(system), failure=system if isinstance(system, str) else "")
        for name, system in plan.systems.items()
    }
    systems = [system for system in plan.systems.values() if isinstance(system, System)]
    logger.info("measuring the machine's matrix rate")
    rates = matrix_rates(plan.cpus)
    reference = reference_of(plan.bundles)
    with tempfile.TemporaryDirectory(prefix="monograph-bench-") as folder:
        with ExitStack() as stack:
            running = start_all(systems, results, plan.cpus, plan.settings.timeout, stack)
            trial = Rounds(running, results, plan.settings, Path(folder))
            trial.read(plan.workloads)
            trial.choose_batch_sizes({system.name: system.batch_sizes for system in systems}, plan.workloads[0])
            trial.padding(plan.workloads)
        with ExitStack() as stack:
            starts = plan.settings.starts
            running = time_starts(systems, results, plan.cpus, plan.settings.timeout, starts, stack)
            rounds = Rounds(running, results, plan.settings, Path(folder))
            rounds.read(plan.workloads)
            _compare(rounds, results, reference)
            rounds.throughput(plan.workloads)
            rounds.latency(plan.calls)
            rounds.memory()
    if all(result.failure for result in results.values()):
        reasons = "; ".join(f"{result.name}: {result.failure}" for result in results.values())
        raise MonographError(f"nothing could be measured: {reasons}")
    _add_roofline(plan, results, rates)
    return Results(
        machine=describe_machine(),
        settings=dataclasses.asdict(plan.settings)
        | {"call_sizes": list(plan.settings.call_sizes), "threads": len(plan.cpus)},
        workloads=_facts(plan),
        rates=rates,
        reference="none: no bundle here holds the vectors of the unchanged model"
        if reference is None
        else reference.words,
        not_timed=NOT_TIMED,
        systems=list(results.values()),
    )


def _kind(system: System | str) -> str:
    return "monograph" if isinstance(system, System) and system.adapter == ADAPTER else "peer"


def _compare(rounds: Rounds, results: Mapping[str, SystemResult], reference: Reference | None) -> None:
    if reference is None:
        return
    rounds.read([reference.texts])
    for name, vectors in rounds.vectors(reference.texts).items():
        results[name].cosine = cosines(vectors, reference)


def _facts(plan: Plan) -> dict[str, WorkloadFacts]:
    """Return the workloads' sizes, by the first bundle's tokenizer."""
    first = next(iter(plan.bundles.values()))
    facts = {}
    for workload in (*plan.workloads, plan.calls):
        lengths = token_lengths(first, workload.texts)
        facts[workload.name] = WorkloadFacts(len(lengths), int(lengths.sum()), int(lengths.max()))
    return facts


def _add_roofline(plan: Plan, results: Mapping[str, SystemResult], rates: Mapping[str, float]) -> None:
    """Note each bundle's share of the machine's own rate at the type that its products are of."""
    for bundle in plan.bundles.values():
        [graph] = bundle.manifest.graphs
        work = count_work(bundle.path / graph.file)
        lengths = {workload.name: token_lengths(bundle, workload.texts) for workload in plan.workloads}
        for name, system in plan.systems.items():
            if isinstance(system, str) or system.options.get("bundle") != str(bundle.path):
                continue
            result = results[name]
            dtype = "int8" if graph.precision == "int8" else result.described.get("compute_dtype", "")
            for workload, rounds in result.rounds.items():
                if dtype in rates:
                    seconds = float(np.median([one.seconds for one in rounds]))
                    result.roofline[workload] = work.of(lengths[workload]) / seconds / rates[dtype]
