"""Results as a Markdown table, and as the part of README that it is.

python -m monograph_bench.report.markdown RESULTS.json README.md PLOT.svg renews both files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from monograph.errors import InputError, printable
from monograph_bench.report.figures import base_of, milliseconds, profile_for, ratio, start_seconds, texts_per_second
from monograph_bench.report.plots import speed_against_quality
from monograph_bench.results import Results, SystemResult, read_results

# What would end a cell, or begin a link, code or HTML.
_SPECIAL = re.compile(r"([|<`\[\]])")
BEGIN, END = "<!-- begin: monograph bench -->", "<!-- end: monograph bench -->"


def table_of(results: Results) -> str:
    """Return the figures of the first workload, latency, start and memory: a row a system, the fastest first."""
    return "\n".join(_lines(results))


def with_table(text: str, table: str) -> str:
    """Return a text with the table between its marks.

    Raises:
        InputError: the marks are not there.

    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"there is no place for the table: it stands between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _lines(results: Results) -> Iterator[str]:
    workload, facts = next(iter(results.workloads.items()))
    base = base_of(results)
    if base is None:
        raise InputError("the results have no system that was measured")
    machine, profile = results.machine, profile_for(results)
    sets = ", ".join(machine["instruction_sets"])
    mean = facts.tokens / facts.texts
    threads = results.settings["threads"]
    yield f"{machine['cpu']} ({sets}), {threads} threads each; {facts.texts:,} {profile.task.inputs} of {mean:.0f}"
    yield f"tokens on average; {results.settings['rounds']} interleaved rounds."
    yield ""
    yield (
        f"| | {profile.task.inputs}/s | x {_cell(base.name)} | {profile.call}, p50 / p99 | first {profile.result} | "
        f"anonymous memory | {profile.comparison.label} |" + (" STS |" if results.sts else "")
    )
    others = 7 if results.sts else 6
    yield "|---|" + "---|" * others
    ran = [system for system in results.systems if system.rounds.get(workload)]
    for system in sorted(ran, key=lambda system: -(ratio(system, base, workload) or 0)):
        yield _row(results, system, base, workload)
    for system in results.systems:
        if system.failure and system not in ran:
            yield f"| {_cell(system.name)} | not measured: {_cell(system.failure)} |" + " |" * (others - 1)


def _row(results: Results, system: SystemResult, base: SystemResult, workload: str) -> str:
    profile = profile_for(results)
    call = str(profile.call_sizes[0])
    speed, start, calls = texts_per_second(results, system, workload), start_seconds(system), milliseconds(system, call)
    anonymous = system.memory.get("anonymous")
    cells = [
        f"{_cell(system.name)} (failed)" if system.failure else _cell(system.name),
        f"{speed.median:,.0f}" if speed else "",
        f"{ratio(system, base, workload):.2f}",
        f"{calls[50]:.1f} / {calls[99]:.1f} ms" if calls else "",
        f"{start.median:.2f} s" if start else "",
        f"{anonymous / 1e6:,.0f} MB" if anonymous else "",
        profile.comparison.describe(system, profile.comparison.short_format),
    ]
    if results.sts:
        cells.append("" if system.sts is None else f"{system.sts:.2f}")
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Return text of a bundle or of other software as the cell of a table."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def main(results_file: str, readme: str, plot: str) -> None:
    """Renew README's table and the plot."""
    results = read_results(Path(results_file))
    path = Path(readme)
    path.write_text(with_table(path.read_text("utf-8"), table_of(results)), encoding="utf-8")
    Path(plot).write_text(speed_against_quality(results, next(iter(results.workloads))), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
