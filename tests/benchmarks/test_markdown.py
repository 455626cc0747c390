"""The table of results that README has between its marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monograph.errors import InputError
from monograph_bench.report.markdown import BEGIN, END, main, table_of, with_table
from monograph_bench.report.plots import speed_against_quality
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
    assert [system.name for system in results.systems if f"<!-- {system.name} -->" not in plot] == []
