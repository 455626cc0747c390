"""`monograph bench` from the command line: one real run, and what is refused before anything is measured."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from support.command import assert_error, assert_reported, monograph

PAIRS = """sentence1\tsentence2\tscore
A river runs through the town.\tThe town lies on a river.\t4.5
A river runs through the town.\tShe plays the violin.\t0.5
He reads a newspaper.\tA man is reading.\t3.5
"""


@pytest.fixture(scope="module")
def run(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "pairs.tsv").write_text(PAIRS)
    done = monograph(
        "bench", tiny_bundle, "--device", "cpu", "--rounds", 1, "--starts", 1, "--count", 12,
        "--mix", "mixed", "--mix", "short", "--sts", folder / "pairs.tsv",
        "--output", folder / "results.json", "--page", folder / "results.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_reported(done, "Starting the systems: 1 system", "Round 1 of 1: mixed: 1 system", "calls of 8: 1 system")
    return done.stdout.decode(), folder


def test_it_prints_tables_and_writes_every_round(run: tuple[str, Path]) -> None:
    table, folder = run
    for words in (
        "mixed: 12 texts",
        "short: 12 texts",
        "calls of 1 short text",
        "start of a process",
        "not timed:",
        "cosine, mean / worst",
        "the scores of pairs.tsv, 3 pairs",
    ):
        assert words in table
    text = (folder / "results.json").read_text("utf-8")
    # Results are published: no folder of this machine is in them.
    assert str(folder.parent) not in text
    report = json.loads(text)
    assert (report["schema_version"], report["task"]) == (2, "embedding")
    assert [len(system["rounds"]["mixed"]) for system in report["systems"]] == [1]
    assert report["sts"] == "pairs.tsv, 3 pairs"
    assert [-100 <= system["sts"] <= 100 for system in report["systems"]] == [True]


def test_the_page_needs_no_network_and_has_every_plot(run: tuple[str, Path]) -> None:
    page = (run[1] / "results.html").read_text("utf-8")
    assert "Speed against STS, mixed" in page
    assert page.count("<svg") == page.count("<figcaption>") >= 6
    # Names of XML's vocabularies are no addresses that are fetched.
    loaded = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)([^"']*)""", page)
    assert not loaded
    assert "url(http" not in page
    assert "<script" not in page
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_a_reranker_is_measured_with_pairs(
    tiny_cross_bundle: Path, tiny_cross_checkpoint: Path, tmp_path: Path
) -> None:
    done = monograph(
        "bench", tiny_cross_bundle, "--device", "cpu", "--rounds", 1, "--starts", 1, "--count", 20,
        "--against", "sentence-transformers,fastembed", "--checkpoint", tiny_cross_checkpoint,
        "--output", tmp_path / "results.json", "--page", tmp_path / "results.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = done.stdout.decode()
    for words in (
        "rerank: 20 pairs", "pairs/s", "difference, mean / worst", "calls of 100 pairs, a query with its passages",
        "start of a process to its first score", "not measured: fastembed: fastembed is not measured with rerankers",
    ):  # fmt: skip
        assert words in table
    report = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert report["task"] == "rerank"
    assert [list(system["latencies"]) for system in report["systems"]] == [["100"], ["100"], []]
    ours, theirs, _ = report["systems"]
    assert len(ours["latencies"]["100"][0]["seconds"]) == report["settings"]["calls"]
    for system in (ours, theirs):
        assert system["scores"]["worst_difference"] < 1e-5
        assert system["scores"]["spearman"] > 0.999
        assert not system["cosine"]
    assert 0 <= ours["padding"]["rerank"] < 1
    assert 0 < ours["roofline"]["rerank"] < 1
    page = (tmp_path / "results.html").read_text("utf-8")
    assert "Pairs per second, rerank" in page
    assert "Speed against quality, rerank" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give at least one BUNDLE"),
        (["{bundle}", "--against", "fastembed"], "--checkpoint FOLDER"),
        (["{bundle}", "--checkpoint", "{bundle}"], "--against PEERS"),
        (["{bundle}", "--checkpoint", "/nowhere", "--against", "fastembed"], "/nowhere is no folder"),
        (["{bundle}", "--page", "{bundle}"], "is a folder: name a file"),
        (["{bundle}", "--output", "/nowhere/results.json"], "could not be written"),
        (["{bundle}", "--threads", "4096"], "4096 threads cannot be measured"),
        (["{bundle}", "{bundle}"], "rename a folder"),
        (["{bundle}", "{pairs}"], "is of the task embedding and pairs of the task rerank"),
        (["{pairs}", "--mix", "mixed"], "--mix is for models of texts: a reranker is measured with pairs"),
        (["{pairs}", "--texts", "{bundle}/manifest.json"], "manifest.json line 1 is not two texts with a tab between"),
        (["{bundle}", "--sts", "/nowhere/pairs.tsv"], "/nowhere/pairs.tsv cannot be read"),
        (["{pairs}", "--sts", "/nowhere/pairs.tsv"], "--sts is for embedding models, and the bundles are rerankers"),
        (["--compare", "/nowhere/old.json", "/nowhere/new.json"], "cannot be read"),
        (["/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments: list[str], words: str, tiny_bundle: Path, tiny_cross_bundle: Path, tmp_path: Path
) -> None:
    # By another name than the other bundle's, which two of a run may not share.
    pairs = tmp_path / "pairs"
    shutil.copytree(tiny_cross_bundle, pairs)
    done = monograph("bench", *(argument.format(bundle=tiny_bundle, pairs=pairs) for argument in arguments))
    assert done.returncode == 1
    assert_error(done, 1, words)


@pytest.mark.parametrize("arguments", [["--against", "tensorflow"], ["--mix", "odd"], ["--rounds", "0"]])
def test_bad_usage_is_reported_as_such(arguments: list[str], tiny_bundle: Path) -> None:
    done = monograph("bench", tiny_bundle, *arguments)
    assert done.returncode == 2
    assert arguments[0].encode() in done.stderr


def test_where_nothing_could_be_measured_the_reasons_are_there(tiny_bundle: Path) -> None:
    done = monograph("bench", tiny_bundle, "--device", "openvino:NPU", "--rounds", 1, "--count", 4)
    assert done.returncode == 1
    assert b"nothing could be measured: monograph bundle openvino:NPU: " in done.stderr
