"""Results as one HTML file that needs no other file and no network."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from monograph.atomic import atomic_file
from monograph.errors import printable
from monograph_bench.report.plots import plots_of
from monograph_bench.report.table import lines_of
from monograph_bench.results import Results

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1a1a1a; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
svg { width: 100%; height: auto; display: block; }
pre { overflow-x: auto; font-size: .85rem; line-height: 1.35; background: #f5f6f7; padding: 1rem; }
"""


def write_page(results: Results, path: Path) -> None:
    """Write the report's page."""
    with atomic_file(path) as file:
        file.write("".join(_parts(results)).encode())


def _parts(results: Results) -> Iterator[str]:
    title = f"monograph bench: {results.machine['cpu']}, {results.settings['threads']} threads"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    yield f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(results.machine['time'])}; "
    yield f"{results.settings['rounds']} rounds, every system in turn in each.</p>\n<main>\n"
    for number, (caption, svg) in enumerate(plots_of(results).items()):
        # Names inside an SVG are the page's: each plot gets its own.
        yield f"<figure>\n<figcaption>{html.escape(caption)}</figcaption>\n{_with_own_names(svg, number)}</figure>\n"
    yield f"</main>\n<h2>Tables</h2>\n<pre>{html.escape(chr(10).join(lines_of(results)))}</pre>\n"
    yield "<h2>How each system is called</h2>\n<dl>\n"
    for system in results.systems:
        if system.usage:
            yield f"<dt>{html.escape(printable(system.name))}</dt><dd>{html.escape(printable(system.usage))}</dd>\n"
    yield "</dl>\n</body>\n</html>\n"


def _with_own_names(svg: str, number: int) -> str:
    for before in ('id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}plot{number}-")
    return svg
