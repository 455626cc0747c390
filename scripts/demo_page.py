"""What the demo showed, as one HTML file that needs no other file and no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph.atomic import atomic_file
from monograph.quality import VerificationResult


@dataclass(frozen=True)
class Search:
    """A query with its best texts and their scores, the best first."""

    query: str
    hits: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Plot:
    """Medians to compare by name; ``decimals`` are those of the numbers, and ``note`` is said below."""

    title: str
    unit: str
    more_is_better: bool
    decimals: int
    medians: dict[str, float]
    note: str


@dataclass(frozen=True)
class Demo:
    """All that a page shows.

    ``subtitle`` says on what; ``similarities``, float32 [n, n], are those of the ``sentences``; ``verifications`` are
    what `monograph verify` found, against ``reference``.
    """

    title: str
    subtitle: str
    reference: str
    verifications: Sequence[VerificationResult]
    sentences: Sequence[str]
    similarities: NDArray[np.float32]
    searches: Sequence[Search]
    speed_title: str
    plots: Sequence[Plot]


# The bars of the peer are gray, ours are not.
PEER = "torch"
# A cell above this share of the color has its number in the color of the page.
_STRONG = 0.7

_STYLE = """
:root { color-scheme: light dark;
  --page: #ffffff; --text: #1a1c1f; --soft: #59616b; --line: #d9dde2; --panel: #f6f7f9;
  --accent: #005a9c; --heat: 0 90 156; --on-heat: #ffffff; --peer: #9aa3ad; --good: #1a7f37; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --text: #e6e8eb; --soft: #a3abb5; --line: #363c43; --panel: #1d2125;
  --accent: #5fb0ee; --heat: 95 176 238; --on-heat: #0b1116; --peer: #6d7681; --good: #57c878; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 3rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: 0 0 .75rem; } .soft { color: var(--soft); font-size: .9rem; }
section { margin-top: 2.25rem; }
.columns { display: grid; gap: 2.25rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.plots { display: grid; gap: 2rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.columns section { margin-top: 0; min-width: 0; } .columns + section, section + .columns { margin-top: 2.25rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.checks th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem; }
.checks th, .checks td { border-bottom: 1px solid var(--line); padding: .4rem .75rem .4rem 0; vertical-align: top; }
.checks .number { text-align: right; padding-right: 0; white-space: nowrap; }
.checks .number + .number { padding-left: 1rem; } .checks .outcome { padding-left: 2rem; padding-right: 0; }
.passed { color: var(--good); font-weight: 600; } .failed { color: var(--bad); font-weight: 600; }
.heat { table-layout: fixed; border-spacing: 2px; border-collapse: separate; }
.heat th { font-weight: 600; color: var(--soft); font-size: .85rem; text-align: center; padding: .15rem 0; }
.heat th:first-child { width: 1.5rem; }
.heat td { text-align: center; padding: 1rem 0; border-radius: 3px; font-size: .85rem; }
.heat td { background: rgb(var(--heat) / var(--share)); } .heat .strong { color: var(--on-heat); }
ol { margin: .75rem 0 0; padding-left: 1.5rem; } ol li::marker { color: var(--soft); font-weight: 600; }
.search { margin-bottom: 1.25rem; } .search h3 { font-style: italic; font-weight: 600; }
.hit { display: grid; grid-template-columns: 3.25rem 1fr; column-gap: .75rem; margin-bottom: .5rem; }
.hit .score { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.hit.best .score { color: var(--text); font-weight: 600; }
.track { background: var(--panel); border-radius: 2px; height: .35rem; margin-top: .25rem; }
.bar { background: var(--accent); border-radius: 2px; height: 100%; } .bar.peer { background: var(--peer); }
.plot { margin: 0; }
.plot .row { margin-bottom: .6rem; } .plot .track { height: 1.1rem; margin-top: .15rem; }
.plot .names { display: flex; justify-content: space-between; gap: 1rem; font-variant-numeric: tabular-nums; }
.plot figcaption { font-weight: 600; margin-bottom: .5rem; } .plot .times { color: var(--soft); }
@media (max-width: 34rem) {
  .checks thead { display: none; } .checks tr { display: grid; grid-template-columns: 1fr auto; column-gap: 1rem;
    border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .checks th, .checks td { border: 0; padding: 0; } .checks .number { text-align: left; }
  .checks .number + .number { padding-left: 0; }
  .checks td[data-label]::before { content: attr(data-label) " "; color: var(--soft); }
  .checks .outcome { grid-column: 2; grid-row: 1; padding: 0; } .checks td:not(.outcome) { grid-column: 1; }
  .heat td { font-size: .75rem; padding: .5rem 0; } }
"""


def write_page(demo: Demo, path: Path) -> None:
    """Write the page; it appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write("\n".join(_parts(demo)).encode())


def _parts(demo: Demo) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{html.escape(demo.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f'<h1>{html.escape(demo.title)}</h1>\n<p class="soft">{html.escape(demo.subtitle)}</p>'
    yield from _verified(demo)
    yield '<div class="columns">'
    yield from _heat_map(demo)
    yield from _searches(demo)
    yield "</div>"
    yield from _speed(demo)
    yield "</body>\n</html>\n"


def _verified(demo: Demo) -> Iterator[str]:
    yield "<section>\n<h2>Verified</h2>"
    yield f"<p>The graph was compared with {html.escape(demo.reference)}, on this machine, with each installed engine"
    yield "and type: each probe alone, next to a shorter text, in ragged batches, and batched by length.</p>"
    head = ("device", "computes in", "probes", "max abs difference", "worst cosine", "result")
    classes = ("", "", "number", "number", "number", "outcome")
    yield '<table class="checks">\n<thead><tr>'
    yield "".join(f'<th class="{name}">{title}</th>' for title, name in zip(head, classes, strict=True))
    yield "</tr></thead>\n<tbody>"
    for result in demo.verifications:
        cosine = "" if result.worst_cosine is None else f"{result.worst_cosine:.7f}"
        outcome = "passed" if result.passed else "failed"
        yield "<tr>"
        yield f"<td>{html.escape(f'{result.device} ({result.engine} {result.version})')}</td>"
        yield f"<td>{html.escape(result.compute_dtype)}</td>"
        numbers = (f"{result.probes:,}", f"{result.max_abs_difference:.1e}", cosine)
        for title, number in zip(head[2:5], numbers, strict=True):
            yield f'<td class="number" data-label="{title}">{number}</td>'
        yield f'<td class="outcome {outcome}">{outcome}</td></tr>'
    yield "</tbody>\n</table>\n</section>"


def _heat_map(demo: Demo) -> Iterator[str]:
    yield '<section>\n<h2>Similarity</h2>\n<table class="heat">'
    numbers = range(1, len(demo.sentences) + 1)
    yield "<tr><th></th>" + "".join(f'<th scope="col">{number}</th>' for number in numbers) + "</tr>"
    for number, row in zip(numbers, demo.similarities, strict=True):
        yield f'<tr><th scope="row">{number}</th>{"".join(map(_cell, row.tolist()))}</tr>'
    yield "</table>\n<ol>"
    yield from (f"<li>{html.escape(sentence)}</li>" for sentence in demo.sentences)
    yield "</ol>\n</section>"


def _cell(value: float) -> str:
    share = min(max(value, 0.0), 1.0)
    strong = ' class="strong"' if share > _STRONG else ""
    return f'<td{strong} style="--share: {share:.2f}">{value:.2f}</td>'


def _searches(demo: Demo) -> Iterator[str]:
    yield "<section>\n<h2>Semantic search</h2>"
    for search in demo.searches:
        yield f'<div class="search">\n<h3>{html.escape(search.query)}</h3>'
        for place, (score, text) in enumerate(search.hits):
            best = " best" if place == 0 else ""
            yield f'<div class="hit{best}"><div class="score">{score:.3f}</div><div>{html.escape(text)}'
            yield f"{_bar(score, 1.0, peer=False)}</div></div>"
        yield "</div>"
    yield "</section>"


def _speed(demo: Demo) -> Iterator[str]:
    yield f'<section>\n<h2>{html.escape(demo.speed_title)}</h2>\n<div class="plots">'
    for plot in demo.plots:
        better = "more" if plot.more_is_better else "less"
        yield f'<figure class="plot">\n<figcaption>{html.escape(plot.title)} ({better} is better)</figcaption>'
        largest = max(plot.medians.values())
        for name, median in plot.medians.items():
            yield f'<div class="row"><div class="names"><span>{html.escape(name)}</span><span>'
            yield f"{median:,.{plot.decimals}f} {html.escape(plot.unit)}{_times(plot, name)}</span></div>"
            yield f"{_bar(median, largest, peer=name == PEER)}</div>"
        yield f'<p class="soft">{html.escape(plot.note)}</p>\n</figure>'
    yield "</div>\n</section>"


def _times(plot: Plot, name: str) -> str:
    """Return how many times as fast as the peer something is."""
    if name == PEER:
        return ""
    ratio = plot.medians[name] / plot.medians[PEER]
    return f' <span class="times">({ratio if plot.more_is_better else 1 / ratio:.1f}x)</span>'


def _bar(value: float, largest: float, *, peer: bool) -> str:
    width = 100 * min(max(value / largest, 0.0), 1.0)
    return f'<div class="track"><div class="bar{" peer" if peer else ""}" style="width: {width:.1f}%"></div></div>'
