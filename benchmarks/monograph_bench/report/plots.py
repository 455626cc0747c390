"""The plots of a report, as SVG that scales with the page."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monograph.errors import printable
from monograph_bench.report.figures import milliseconds, profile_for, texts_per_second
from monograph_bench.results import Results, SystemResult

# Ours and theirs: distinguishable with any color vision, and in gray.
COLORS = {"monograph": "#005a9c", "peer": "#b0b7bf"}
# Narrow enough to be read on a phone without zooming.
_WIDTH_INCHES = 5.0
_BAR_INCHES = 0.42
_MARGIN_INCHES = 1.1
_SCATTER_INCHES, _NAME_INCHES = 3.4, 0.17
_NUMBER_POINTS, _NUMBER_HEIGHTS = 10, 3


def plots_of(results: Results) -> dict[str, str]:
    """Return the report's plots as SVG, by title; those without any figure are left out."""
    plots = {}
    inputs = profile_for(results).task.inputs
    for workload in results.workloads:
        plots[f"{inputs.capitalize()} per second, {workload} (more is better)"] = throughput_plot(results, workload)
        plots[f"Speed against quality, {workload} (right and up is better)"] = _speed_against_quality(results, workload)
        shares = [(system, share * 100) for system in results.systems if (share := system.roofline.get(workload))]
        plots[f"Share of the machine's own matrix rate, {workload} (more is better)"] = _bars(shares, "%")
    for size in dict.fromkeys(size for system in results.systems for size in system.latencies):
        medians = [(system, calls[50]) for system in results.systems if (calls := milliseconds(system, size))]
        plots[f"Median latency of a call of {size} (less is better)"] = _bars(medians, "ms")
    used = [(system, bytes_ / 1e6) for system in results.systems if (bytes_ := system.memory.get("anonymous"))]
    plots["Anonymous memory after all rounds (less is better)"] = _bars(used, "MB")
    return {title: svg for title, svg in plots.items() if svg}


def throughput_plot(results: Results, workload: str) -> str:
    """Return the throughput of every system on a workload as SVG, "" where there is none."""
    return _bars(_speeds(results, workload), f"{profile_for(results).task.inputs}/s")


def _speeds(results: Results, workload: str) -> list[tuple[SystemResult, float]]:
    speeds = [(system, texts_per_second(results, system, workload)) for system in results.systems]
    return [(system, speed.median) for system, speed in speeds if speed is not None]


def _bars(values: Sequence[tuple[SystemResult, float]], unit: str) -> str:
    if not values:
        return ""
    ordered = sorted(values, key=lambda pair: pair[1])
    figure = Figure(figsize=(_WIDTH_INCHES, _MARGIN_INCHES + _BAR_INCHES * len(ordered)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [_label(system) for system, _ in ordered],
        [value for _, value in ordered],
        color=[COLORS[system.kind] for system, _ in ordered],
    )
    axes.bar_label(bars, fmt="{:,.4g}", padding=3)
    axes.set_xlabel(unit)
    axes.margins(x=0.18)
    _plain(axes)
    return _svg(figure)


def _speed_against_quality(results: Results, workload: str) -> str:
    speeds = _speeds(results, workload)
    profile = profile_for(results)
    figures = [(system, speed, profile.comparison.plotted_of(system)) for system, speed in speeds]
    points = [(system, speed, quality) for system, speed, quality in figures if quality is not None]
    if not points:
        return ""
    figure = Figure(figsize=(_WIDTH_INCHES, _SCATTER_INCHES + _NAME_INCHES * len(points)), layout="constrained")
    axes = figure.subplots()
    numbered = sorted(enumerate(points, 1), key=lambda pair: pair[1][1])
    for place, (number, (system, speed, quality)) in enumerate(numbered):
        axes.scatter([speed], [quality], color=COLORS[system.kind], zorder=3)
        # Neighbours are often as near torch and as fast: their numbers stand at different heights.
        height = _NUMBER_POINTS * (0.6 + place % _NUMBER_HEIGHTS)
        axes.annotate(str(number), (speed, quality), xytext=(0, height), textcoords="offset points", ha="center")
    names = "\n".join(f"{number} {_label(system)}" for number, (system, _, _) in enumerate(points, 1))
    figure.supxlabel(names, fontsize="small", ha="left", x=0.02)
    axes.set_xlabel(f"{profile.task.inputs}/s, {workload}")
    axes.set_ylabel(profile.comparison.axis)
    axes.ticklabel_format(axis="y", useOffset=False)
    # The highest number above the highest point.
    axes.margins(x=0.12, y=0.25)
    _plain(axes)
    return _svg(figure)


def _label(system: SystemResult) -> str:
    # Between two dollar signs matplotlib expects a formula.
    return printable(system.name).replace("$", r"\$")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # No time of making: the same results give the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
