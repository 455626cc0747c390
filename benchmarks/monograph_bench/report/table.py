"""Results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from monograph.errors import printable
from monograph_bench.report.figures import (
    PERCENTILES,
    base_of,
    cores_used,
    milliseconds,
    profile_for,
    ratio,
    start_seconds,
    texts_per_second,
)
from monograph_bench.results import Results, SystemResult

# A system that has all cores to itself uses them nearly whole; tokenization and the like is on fewer.
_BUSY_SHARE = 0.6


def lines_of(results: Results) -> Iterator[str]:
    """Yield the report's lines; names and failures in them come from bundles and other software."""
    return map(printable, _lines(results))


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    yield f"{machine['cpu']}, {results.settings['threads']} threads each, {' '.join(machine['instruction_sets'])}"
    rates = ", ".join(f"{dtype} {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in results.rates.items())
    yield f"the machine's own matrix products: {rates}"
    if results.memory_bandwidth is not None:
        yield f"reading memory: {results.memory_bandwidth / 1e9:,.1f} GB/s"
    for workload in results.workloads:
        if any(workload in system.rounds for system in results.systems):
            yield ""
            yield from _throughput(results, workload)
    for size in dict.fromkeys(size for system in results.systems for size in system.latencies):
        yield ""
        yield from _latency(results, size)
    yield ""
    yield from _start_and_memory(results)
    comparison = profile_for(results).comparison
    if comparison.footnote and any(comparison.worst_of(system) is not None for system in results.systems):
        yield ""
        yield comparison.footnote
    if results.sts:
        yield ""
        yield f"STS: Spearman's correlation of cosines with the scores of {results.sts}, in points of 100"
    yield from _shared_machine(results)
    failed = [system for system in results.systems if system.failure]
    if failed:
        yield ""
        yield from (
            f"{'failed' if system.rounds else 'not measured'}: {system.name}: {system.failure}" for system in failed
        )
    yield ""
    yield "not timed:"
    yield from (f"  {what}" for what in results.not_timed)


def _throughput(results: Results, workload: str) -> Iterator[str]:
    facts = results.workloads[workload]
    profile = profile_for(results)
    comparison = profile.comparison
    base = base_of(results)
    against = "" if base is None else f"x {base.name}"
    header = (
        f"{profile.task.inputs}/s",
        "low-high",
        against,
        "cores",
        "batch",
        "padding",
        "roofline",
        comparison.label,
        "STS",
    )
    rows = []
    for system in results.systems:
        speed = texts_per_second(results, system, workload)
        if speed is None or base is None:
            continue
        times = ratio(system, base, workload)
        rows.append(
            (
                f"{system.name} (failed)" if system.failure else system.name,
                f"{speed.median:,.1f}",
                f"{speed.low:,.1f}-{speed.high:,.1f}",
                "" if times is None else f"{times:.2f}",
                f"{cores_used(system.rounds[workload]):.2f}",
                str(system.batch_sizes.get(workload) or "own"),
                _percent(system.padding.get(workload)),
                _percent(system.roofline.get(workload)),
                comparison.describe(system, comparison.number_format),
                "" if system.sts is None else f"{system.sts:.2f}",
            )
        )
    title = f"{workload}: {facts.texts:,} {profile.task.inputs}, {facts.tokens / facts.texts:.0f} tokens on average"
    yield from _table(title, header, rows)


def _shared_machine(results: Results) -> Iterator[str]:
    """Warn where systems got fewer cores than requested: something else was running."""
    rounds = [one for system in results.systems for rounds in system.rounds.values() for one in rounds]
    cores = max((cores_used([one]) for one in rounds), default=0.0)
    if cores < _BUSY_SHARE * results.settings["threads"]:
        yield ""
        yield f"no system got more than {cores:.2f} cores in any round: the machine was busy with something else"


def _latency(results: Results, size: str) -> Iterator[str]:
    rows = []
    for system in results.systems:
        percentiles = milliseconds(system, size)
        if percentiles is not None:
            rows.append(
                (
                    system.name,
                    *(f"{percentiles[percentile]:.2f}" for percentile in PERCENTILES),
                    "" if system.weight_bytes is None else f"{system.weight_bytes / 1e6:,.1f}",
                    _percent(system.bandwidth.get(size)),
                )
            )
    header = (*(f"p{percentile} ms" for percentile in PERCENTILES), "weights MB", "bandwidth")
    title = profile_for(results).calls.format(size=size, s="" if size == "1" else "s")
    yield from _table(title, header, rows)


def _start_and_memory(results: Results) -> Iterator[str]:
    rows = []
    for system in results.systems:
        start = start_seconds(system)
        if start is not None:
            spread = f"{start.low:.2f}-{start.high:.2f}"
            memory = [_megabytes(system, kind) for kind in ("anonymous", "resident", "peak")]
            rows.append((system.name, f"{start.median:.2f}", spread, *memory))
    header = ("s", "low-high", "anonymous MB", "resident MB", "peak MB")
    result = profile_for(results).result
    yield from _table(f"start of a process to its first {result}; memory after all rounds", header, rows)


def _megabytes(system: SystemResult, kind: str) -> str:
    value = system.memory.get(kind)
    return "" if value is None else f"{value / 1e6:,.0f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with the first column to the left and the others to the right, columns that are empty left out."""
    shown = [0, *(i for i in range(1, len(header) + 1) if any(row[i] for row in rows))]
    cells = [[(title, *header)[i] for i in shown], *([row[i] for i in shown] for row in rows)]
    # The title has the line to itself where names are shorter.
    widths = [max(len(row[i]) for row in cells[i == 0 :]) for i in range(len(shown))]
    yield title
    for row in [["", *cells[0][1:]], *cells[1:]]:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([f"  {first.strip():<{widths[0]}}", *others])
