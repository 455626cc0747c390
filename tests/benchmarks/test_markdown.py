"""The table of results that README has between its marks."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from monograph.errors import InputError
from monograph_bench.report import plots
from monograph_bench.report.markdown import BEGIN, END, main, table_of, with_table
from monograph_bench.report.plots import frontier, speed_against_quality
from monograph_bench.results import SCHEMA_VERSION, read_results

PROJECT = Path(__file__).parents[2]
RESULTS = PROJECT / "benchmarks" / "results" / "minilm.json"


def test_the_table_takes_the_place_between_the_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["# A text\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_text_without_a_place_for_the_table_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no place for the table"):
        with_table(text, "| a |")


def test_the_readme_has_the_saved_results() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    results = read_results(RESULTS)
    assert with_table(readme, table_of(results)) == readme


def test_a_run_with_sts_has_a_column_for_it() -> None:
    results = read_results(RESULTS)
    results.sts, results.systems[0].sts, results.systems[-1].sts = "pairs.tsv, 250 pairs", 81.987, None
    header, rule, *rows = (line for line in table_of(results).splitlines() if line.startswith("|"))
    assert header.endswith("| cosine, mean / worst | STS |")
    assert {line.count("|") for line in (rule, *rows)} == {header.count("|")}
    assert sum(row.endswith("| 81.99 |") for row in rows) == 1


def test_results_from_before_tasks_are_read_as_those_of_embedding_models(tmp_path: Path) -> None:
    values = json.loads(RESULTS.read_text("utf-8"))
    del values["task"]
    for system in values["systems"]:
        del system["scores"]
        system.pop("sts", None)
    path = tmp_path / "before.json"
    path.write_text(json.dumps(values | {"schema_version": 1}))
    results = read_results(path)
    assert (results.schema_version, results.task) == (SCHEMA_VERSION, "embedding")


def test_the_command_renews_table_and_plot(tmp_path: Path) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    before, _, after = readme.partition(BEGIN)
    (tmp_path / "README.md").write_text(f"{before}{BEGIN}\nold\n{END}{after.partition(END)[2]}", encoding="utf-8")
    results = read_results(RESULTS)
    main(str(RESULTS), str(tmp_path / "README.md"), str(tmp_path / "plot.svg"))
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == readme
    assert (tmp_path / "plot.svg").read_text("utf-8") == speed_against_quality(results, next(iter(results.workloads)))


def test_the_kept_plot_names_the_saved_results() -> None:
    results = read_results(RESULTS)
    plot = RESULTS.with_suffix(".svg").read_text(encoding="utf-8")
    # Color distinguishes our systems.
    names = [system.name.removeprefix("monograph ") for system in results.systems if not system.failure]
    assert [name for name in names if f"<!-- {name} -->" not in plot] == []


@pytest.mark.parametrize(
    ("points", "is_loss", "expected"),
    [
        ([(100, 1e-7), (500, 1e-5), (300, 1e-4), (700, 1e-3)], True, [(100, 1e-7), (500, 1e-5), (700, 1e-3)]),
        # Of equals the faster one.
        ([(100, 1e-7), (150, 1e-7)], True, [(150, 1e-7)]),
        ([(100, 82.0), (500, 82.1), (700, 81.9)], False, [(500, 82.1), (700, 81.9)]),
    ],
)
def test_the_frontier_has_what_nothing_beats_in_both(
    points: list[tuple[float, float]], is_loss: bool, expected: list[tuple[float, float]]
) -> None:
    assert frontier(points, is_loss=is_loss) == expected


def test_no_name_of_the_plot_covers_another(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "_svg", figures.append)
    results = read_results(RESULTS)
    # As many again, a little slower, as a run of several bundles has.
    results.systems = [system for system in results.systems if not system.failure]
    others = copy.deepcopy(results.systems)
    for system in others:
        for one in system.rounds["mixed"]:
            one.seconds *= 1.04
    results.systems += others
    speed_against_quality(results, "mixed")
    texts = [text for text in figures[0].axes[0].texts if text.get_text()]
    assert len(texts) == len(results.systems)
    extents = [text.get_window_extent() for text in texts]
    assert [one for one in extents if one.count_overlaps(extents) > 1] == []
