"""The plots of a report, as SVG that scales with the page."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from monograph.errors import printable
from monograph_bench.report.figures import milliseconds, profile_for, texts_per_second
from monograph_bench.results import Results, SystemResult
from monograph_bench.systems import OURS

# Ours and theirs: distinguishable with any color vision, and in gray.
COLORS = {"monograph": "#005a9c", "peer": "#8a929a"}
_KINDS = {"monograph": "monograph", "peer": "other libraries"}
# Narrow enough to be read on a phone without zooming.
_WIDTH_INCHES = 5.0
_BAR_INCHES = 0.42
_MARGIN_INCHES = 1.1
# Higher than wide: names are wide, and find their places above each other.
_SCATTER_INCHES = (5.0, 6.5)
_NAME_POINTS = 9.0
# What a point covers, and a piece of a line.
_BOX_POINTS = 8.0
# At float32 the loss is rounding, and some of it is exactly 0.
_LEAST_LOSS = 1e-7
_LEADER = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
# From a point to its name, in points of 1/72 inch, the nearest first; and which end of the name is there.
_PLACES = sorted(
    (
        ((dx * side, dy), "left" if side > 0 else "right")
        for dx in (7, 20, 40, 70)
        for dy in range(-240, 241, 6)
        for side in (1, -1)
    ),
    key=lambda place: abs(place[0][0]) + 1.2 * abs(place[0][1]),
)


def plots_of(results: Results) -> dict[str, str]:
    """Return the report's plots as SVG, by title; those without any figure are left out."""
    plots = {}
    inputs = profile_for(results).task.inputs
    for workload in results.workloads:
        plots[f"{inputs.capitalize()} per second, {workload} (more is better)"] = _bars(
            _speeds(results, workload), f"{inputs}/s"
        )
        plots[f"Speed against quality, {workload} (right and up is better)"] = speed_against_quality(results, workload)
        plots[f"Speed against STS, {workload} (right and up is better)"] = speed_against_sts(results, workload)
        shares = [(system, share * 100) for system in results.systems if (share := system.roofline.get(workload))]
        plots[f"Share of the machine's own matrix rate, {workload} (more is better)"] = _bars(shares, "%")
    for size in dict.fromkeys(size for system in results.systems for size in system.latencies):
        medians = [(system, calls[50]) for system in results.systems if (calls := milliseconds(system, size))]
        plots[f"Median latency of a call of {size} (less is better)"] = _bars(medians, "ms")
        shares = [(system, share * 100) for system in results.systems if (share := system.bandwidth.get(size))]
        plots[f"Share of the memory bandwidth, a call of {size} (more is better)"] = _bars(shares, "%")
    used = [(system, bytes_ / 1e6) for system in results.systems if (bytes_ := system.memory.get("anonymous"))]
    plots["Anonymous memory after all rounds (less is better)"] = _bars(used, "MB")
    return {title: svg for title, svg in plots.items() if svg}


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


def speed_against_quality(results: Results, workload: str) -> str:
    """Return a point for each system as SVG, faster to the right and less loss above, "" where neither is known.

    A line is the frontier of our systems.
    """
    profile = profile_for(results)
    comparison = profile.comparison
    figures = [(system, speed, comparison.plotted_of(system)) for system, speed in _speeds(results, workload)]
    points = [(system, speed, max(1 - value, _LEAST_LOSS)) for system, speed, value in figures if value is not None]
    return _scatter(points, f"{profile.task.inputs}/s, {workload}", f"1 - {comparison.axis}", is_loss=True)


def speed_against_sts(results: Results, workload: str) -> str:
    """Return a point for each system as SVG, faster to the right and a higher correlation above, "" without any."""
    points = [(system, speed, system.sts) for system, speed in _speeds(results, workload) if system.sts is not None]
    inputs = profile_for(results).task.inputs
    return _scatter(points, f"{inputs}/s, {workload}", f"Spearman x 100, {printable(results.sts)}", is_loss=False)


def frontier(points: Sequence[tuple[float, float]], *, is_loss: bool) -> list[tuple[float, float]]:
    """Return the points, of speed and quality or loss, that no other one beats in both, the slowest first."""
    chosen: list[tuple[float, float]] = []
    for speed, value in sorted(points, key=lambda point: (-point[0], point[1] if is_loss else -point[1])):
        if not chosen or (value < chosen[-1][1] if is_loss else value > chosen[-1][1]):
            chosen.append((speed, value))
    return chosen[::-1]


def _scatter(points: Sequence[tuple[SystemResult, float, float]], x_title: str, y_title: str, *, is_loss: bool) -> str:
    """Return named points as SVG, speed on a logarithmic axis; a loss has one too, with less of it above."""
    if not points:
        return ""
    figure = Figure(figsize=_SCATTER_INCHES, dpi=72, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    if is_loss:
        axes.set_yscale("log")
        axes.invert_yaxis()
    line: list[tuple[float, float]] = []
    for kind, color in COLORS.items():
        chosen = [(speed, value) for system, speed, value in points if system.kind == kind]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), color=color, zorder=3, label=_KINDS[kind])
        if kind == OURS and chosen:
            line = frontier(chosen, is_loss=is_loss)
            axes.plot(*zip(*line, strict=True), color=color, linewidth=1.2, alpha=0.6)
    # Room for the names, on both sides.
    axes.margins(x=0.3, y=0.12)
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    _plain(axes)
    _label_speeds(axes)
    figure.legend(loc="outside upper center", ncols=len(_KINDS), frameon=False, fontsize=_NAME_POINTS)
    # Places are taken from the final ones of the axes.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    _name_points(axes, points, line)
    return _svg(figure)


def _label_speeds(axes: Axes) -> None:
    """Write plain numbers along a logarithmic axis, at 1, 2 and 5 of each power of ten."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _name_points(
    axes: Axes, points: Sequence[tuple[SystemResult, float, float]], line: Sequence[tuple[float, float]]
) -> None:
    """Write the name of each point at the nearest place where it covers no point, no other name and not the line."""
    taken = [_box(*place) for place in axes.transData.transform([point[1:] for point in points])]
    for (x, y), (end_x, end_y) in itertools.pairwise(map(axes.transData.transform, line)):
        steps = np.linspace(0, 1, 2 + int(np.hypot(end_x - x, end_y - y) / _BOX_POINTS))
        taken += [_box(x + step * (end_x - x), y + step * (end_y - y)) for step in steps]
    for system, x, y in sorted(points, key=lambda point: point[1:]):
        text = axes.annotate(
            _label(system).removeprefix(f"{OURS} "),
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=_NAME_POINTS,
            va="center",
            color=COLORS[OURS] if system.kind == OURS else "#333333",
        )
        for place, side in _PLACES:
            text.set(position=place, ha=side)
            extent = text.get_window_extent()
            if axes.bbox.contains(*extent.min) and axes.bbox.contains(*extent.max) and not extent.count_overlaps(taken):
                break
        taken.append(text.get_window_extent())
        axes.annotate("", (x, y), xytext=place, textcoords="offset points", arrowprops=_LEADER)


def _box(x: float, y: float) -> Bbox:
    half = _BOX_POINTS / 2
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _label(system: SystemResult) -> str:
    # Between two dollar signs matplotlib expects a formula.
    return printable(system.name).replace("$", r"\$")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # No date, and no random names: the same results give the same file.
    with rc_context({"svg.hashsalt": "monograph"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
