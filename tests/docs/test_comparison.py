"""The comparison with other libraries quotes the saved run, and every link to a source has an address."""

from __future__ import annotations

import json
import re
from datetime import datetime

from support.pages import DOCS, PROJECT

COMPARISON = (DOCS / "explanation" / "comparison.md").read_text("utf-8")
README = (PROJECT / "README.md").read_text("utf-8")


def test_quoted_figures_are_those_of_the_run() -> None:
    """A new run of scripts/benchmark fails this until the page's own figures are renewed."""
    _, _, after = COMPARISON.partition("\n| figure | ahead | monograph |\n")
    quoted = re.findall(r"`([^`]+)` ([\d.]+)", after.partition("\n\n")[0])
    assert len(quoted) >= 8
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in README.splitlines() if line.startswith("| ")}
    for system, figure in quoted:
        assert figure in re.findall(r"[\d.]+", " ".join(rows[system])), (system, figure)


def test_the_date_is_that_of_the_run() -> None:
    results = json.loads((PROJECT / "benchmarks" / "results" / "minilm.json").read_text("utf-8"))
    time = datetime.fromisoformat(results["machine"]["time"])
    assert f"on {time.day} {time:%B %Y}," in COMPARISON


def test_every_source_has_an_address() -> None:
    """Markdown shows a reference without one as text, which no build refuses."""
    used = set(re.findall(r"\]\[([a-z0-9-]+)\]", COMPARISON))
    addresses = dict(re.findall(r"^\[([a-z0-9-]+)\]: (\S+)$", COMPARISON, re.MULTILINE))
    assert used == addresses.keys()
    assert all(address.startswith("https://") for address in addresses.values())
