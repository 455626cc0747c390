"""`monograph bench` from the command line: one real run, and what is refused before anything is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.command import monograph


@pytest.fixture(scope="module")
def run(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    done = monograph(
        "bench", tiny_bundle, "--device", "cpu", "--rounds", 1, "--count", 12, "--mix", "mixed", "--mix", "short",
        "--output", folder / "results.json", "--page", folder / "results.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"round 1 of 1: mixed" in done.stderr
    return done.stdout.decode(), folder


def test_it_prints_tables_and_keeps_every_round(run: tuple[str, Path]) -> None:
    table, folder = run
    for words in ("mixed: 12 texts", "short: 12 texts", "calls of 1 short text", "start of a process", "not timed:"):
        assert words in table
    kept = (folder / "results.json").read_text("utf-8")
    # Results are published: no folder of this machine is in them.
    assert str(folder.parent) not in kept
    told = json.loads(kept)
    assert told["schema_version"] == 1
    assert [len(system["rounds"]["mixed"]) for system in told["systems"]] == [1]


def test_the_page_needs_no_network_and_has_every_plot(run: tuple[str, Path]) -> None:
    page = (run[1] / "results.html").read_text("utf-8")
    assert page.count("<svg") == page.count("<figcaption>") >= 6
    # Names of XML's vocabularies are no addresses that are asked.
    loaded = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)([^"']*)""", page)
    assert not loaded
    assert "url(http" not in page
    assert "<script" not in page
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))


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
        (["--compare", "/nowhere/old.json", "/nowhere/new.json"], "cannot be read"),
        (["/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments: list[str], words: str, tiny_bundle: Path) -> None:
    done = monograph("bench", *(argument.format(bundle=tiny_bundle) for argument in arguments))
    assert done.returncode == 1
    errors = done.stderr.decode()
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--against", "tensorflow"], ["--mix", "odd"], ["--rounds", "0"]])
def test_bad_usage_is_told_as_such(arguments: list[str], tiny_bundle: Path) -> None:
    done = monograph("bench", tiny_bundle, *arguments)
    assert done.returncode == 2
    assert arguments[0].encode() in done.stderr


def test_where_nothing_could_be_measured_the_reasons_are_there(tiny_bundle: Path) -> None:
    done = monograph("bench", tiny_bundle, "--device", "openvino:NPU", "--rounds", 1, "--count", 4)
    assert done.returncode == 1
    assert b"nothing could be measured: monograph bundle openvino:NPU: " in done.stderr
