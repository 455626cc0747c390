"""The plots of a report, as SVG that scales with the page."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from monograph.errors import printable
from monograph_bench.report.figures import milliseconds, profile_for, texts_per_second
from monograph_bench.results import Results, SystemResult

# Ours and theirs: distinguishable with any color vision, and in gray.
COLORS = {"monograph": "#005a9c", "peer": "#b0b7bf"}
# Narrow enough to be read on a phone without zooming.
_WIDTH_INCHES = 5.0
_BAR_INCHES = 0.42
_MARGIN_INCHES = 1.1
_SCATTER_INCHES = 6.5
# At float32 the loss is rounding, and some of it is exactly 0.
_LEAST_LOSS = 1e-7
_LEADER = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
# From a point to its name, in points of 1/72 inch, the nearest first; and which end of the name is there.
_PLACES = sorted(
    (
        ((dx * side, dy), "left" if side > 0 else "right")
        for dx in (7, 20, 40)
        for dy in range(-120, 121, 10)
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
    """Return a point for each system as SVG, faster to the right and less loss above, "" where neither is known."""
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


def _scatter(points: Sequence[tuple[SystemResult, float, float]], x_title: str, y_title: str, *, is_loss: bool) -> str:
    """Return named points as SVG; a loss has a logarithmic axis with less of it above."""
    if not points:
        return ""
    figure = Figure(figsize=(_SCATTER_INCHES, _SCATTER_INCHES * 0.62), dpi=72, layout="constrained")
    axes = figure.subplots()
    for kind, color in COLORS.items():
        chosen = [(speed, value) for system, speed, value in points if system.kind == kind]
        axes.scatter([speed for speed, _ in chosen], [value for _, value in chosen], color=color, zorder=3)
    if is_loss:
        axes.set_yscale("log")
        axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(x=0.2, y=0.25)
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    _plain(axes)
    # Places are taken from the final ones of the axes.
    figure.draw_without_rendering()
    _name_points(axes, [(_label(system), speed, value) for system, speed, value in points])
    return _svg(figure)


def _name_points(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write the name of each point at the nearest place where it covers no point and no other name."""
    taken = [
        Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform([p[1:] for p in points])
    ]
    for name, x, y in sorted(points, key=lambda point: point[1:]):
        text = axes.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize="x-small", va="center")
        for place, side in _PLACES:
            text.set(position=place, ha=side)
            extent = text.get_window_extent()
            if axes.bbox.contains(*extent.min) and axes.bbox.contains(*extent.max) and not extent.count_overlaps(taken):
                break
        taken.append(text.get_window_extent())
        axes.annotate("", (x, y), xytext=place, textcoords="offset points", arrowprops=_LEADER)


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
