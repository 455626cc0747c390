"""The files of data sets: every usual layout is read, and what is malformed is an error with file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from monograph.errors import InputError
from monograph_bench.evaluation.beir import read_beir
from monograph_bench.evaluation.parallel_texts import read_lines, read_parallel
from monograph_bench.evaluation.sts import read_sts

FIRST, SECOND, GOLD = ["A boat, a sail.", 'He said "ships".'], ["A ship.", "Bread."], [4.5, 0.0]
STSB = "main-captions\tMSRvid\t2012test\t{number}\t{score}\t{first}\t{second}"


def written(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines), "utf-8")
    return file


def rows(layout: str) -> list[str]:
    return [
        layout.format(number=number, first=first, second=second, score=score)
        for number, (first, second, score) in enumerate(zip(FIRST, SECOND, GOLD, strict=True))
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("last.tsv", rows("{first}\t{second}\t{score}")),
        ("first.txt", rows("{score}\t{first}\t{second}")),
        ("sts-dev.csv", [rows(STSB)[0] + "\tsource\tsource", rows(STSB)[1]]),
        ("header.tsv", ["index\tScore\tsentence2\tsentence1", *rows("{number}\t{score}\t{second}\t{first}")]),
        (
            "sick.txt",
            ["pair_ID\tsentence_A\tsentence_B\trelatedness_score", *rows("{number}\t{first}\t{second}\t{score}")],
        ),
        (
            "comma.csv",
            ["sentence1,sentence2,score", '"A boat, a sail.",A ship.,4.5', "", '"He said ""ships"".",Bread.,0'],
        ),
        ("plain.csv", ['4.5,"A boat, a sail.",A ship.', '0,"He said ""ships"".",Bread.']),
        (
            "pairs.jsonl",
            [
                json.dumps({"sentence1": first, "sentence2": second, "score": score})
                for first, second, score in zip(FIRST, SECOND, GOLD, strict=True)
            ],
        ),
    ],
)
def test_layouts_of_sts(tmp_path: Path, name: str, lines: list[str]) -> None:
    pairs = read_sts(written(tmp_path, name, *lines))
    assert (pairs.first, pairs.second, pairs.gold) == (FIRST, SECOND, GOLD)


def test_semeval_has_two_files_and_leaves_out_pairs_that_were_not_judged(tmp_path: Path) -> None:
    lines = [*rows("{first}\t{second}"), "Not judged.\tAt all.\tsource\tsource"]
    pairs = read_sts(written(tmp_path, "input.txt", *lines), written(tmp_path, "gs.txt", "4.5", "0", ""))
    assert (pairs.first, pairs.second, pairs.gold) == (FIRST, SECOND, GOLD)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a\tb\t1", "c\td\thigh"], ("line 2: 'high' is not a score", "give a number")),
        (["a\tb\t1", "c\td\tnan"], ("line 2: 'nan' is not a score",)),
        (["a\tb\t1", "c\td\te\t2"], ("line 2 has 4 columns where the first has 3",)),
        (["a\tb", "c\td"], ("line 1 is of no layout known for STS", "sentence1, sentence2 and score")),
        (["a\tb\t1"], ("has 1 judged pairs", "at least two")),
        ([], ("line 1 is of no layout",)),
        (["a\tb\t1", "c\td\t1"], ("all 2 pairs the score 1",)),
        (['a,b,1', 'c,"d"e,2'], ("line 2 is not CSV", "double the quotation marks")),
    ],
)  # fmt: skip
def test_malformed_sts_is_an_error_with_its_line(tmp_path: Path, lines: list[str], words: tuple[str, ...]) -> None:
    file = written(tmp_path, "sts.tsv", *lines)
    assert_refused(lambda: read_sts(file), str(file), *words)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"sentence1": "a"'], ("line 1 is not JSON", "one object per line")),
        (["[1]"], ("line 1 is JSON, and not an object",)),
        (['{"sentence1": "a", "sentence2": "b"}'], ("line 1 must have texts in sentence1",)),
        (['{"sentence1": "a", "sentence2": "b", "score": "x"}'], ("line 1: 'x' is not a score",)),
    ],
)
def test_malformed_json_lines_are_an_error(tmp_path: Path, lines: list[str], words: tuple[str, ...]) -> None:
    file = written(tmp_path, "sts.jsonl", *lines)
    assert_refused(lambda: read_sts(file), str(file), *words)


def test_semeval_files_that_do_not_belong_together(tmp_path: Path) -> None:
    pairs, gold = written(tmp_path, "input.txt", "a\tb", "c d", "e\tf"), written(tmp_path, "gs.txt", "1", "2", "3")
    assert_refused(lambda: read_sts(pairs, gold), f"{pairs} line 2 has no tab")
    assert_refused(lambda: read_sts(pairs, written(tmp_path, "gs.txt", "1")), "has 3 lines and", "gs.txt 1: each pair")


def test_parallel_texts(tmp_path: Path) -> None:
    source, target = written(tmp_path, "a", "ein Boot", "Brot"), written(tmp_path, "b", "a boat", "bread")
    pairs = written(tmp_path, "pairs.tsv", "ein Boot\ta boat", "Brot\tbread")
    assert read_parallel(source, target) == read_parallel(pairs)
    assert read_parallel(source, target).target == read_lines(target) == ["a boat", "bread"]
    short, blank = written(tmp_path, "short", "a boat"), written(tmp_path, "blank", "a boat", " ")
    ids = written(tmp_path, "ids.tsv", "1\tein Boot\t7\ta boat")
    assert_refused(lambda: read_parallel(source, short), "a has 2 lines and", "short 1", "must be the translation")
    assert_refused(lambda: read_parallel(source, blank), f"{blank} line 2 is blank")
    assert_refused(lambda: read_parallel(ids), f"{ids} line 1 is not two texts", "4 columns", "cut -f")
    assert_refused(lambda: read_lines(written(tmp_path, "none")), "none is empty")
    assert_refused(lambda: read_lines(tmp_path / "a.gz"), "is compressed: `gunzip --keep`")
    (tmp_path / "latin").write_bytes("ein Schiff\ndas Öl\n".encode("latin-1"))
    assert_refused(lambda: read_lines(tmp_path / "latin"), "latin line 2 is not UTF-8")


def beir(folder: Path, **changed: list[str]) -> Path:
    files = {
        "corpus": ['{"_id": "d1", "title": "Boats", "text": "They float."}', '{"_id": "d2", "text": "Bread."}'],
        "queries": ['{"_id": "q1", "text": "What floats?"}', '{"_id": "q2", "text": "Not judged."}'],
        "qrels": ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td2\t0"],
    } | changed
    written(folder, "corpus.jsonl", *files["corpus"])
    written(folder, "queries.jsonl", *files["queries"])
    written(folder, "qrels/test.tsv", *files["qrels"])
    return folder


def test_a_beir_folder(tmp_path: Path) -> None:
    data = read_beir(beir(tmp_path))
    assert (data.queries, data.relevant) == ({"q1": "What floats?"}, {"q1": {"d1": 2}})
    assert dict(data.documents()) == {"d1": "Boats They float.", "d2": "Bread."}
    # TREC's own layout of judgements, and another split.
    written(tmp_path, "qrels/dev.tsv", "q1 0 d2 1")
    assert read_beir(tmp_path, "dev").relevant == {"q1": {"d2": 1}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"corpus": ['{"_id": "d1", "text": 1}']}, ("corpus.jsonl line 1 has no text in the field 'text'",)),
        ({"corpus": ['{"_id": "d1", "text": "a"}'] * 2}, ("corpus.jsonl has two documents with the id 'd1'",)),
        ({"corpus": []}, ("corpus.jsonl is empty",)),
        ({"corpus": [r'{"_id": "d1", "text": "\ud800"}']}, ("corpus.jsonl line 1 holds a lone surrogate",)),
        ({"queries": ['{"_id": "q1", "text": "a"}'] * 2}, ("queries.jsonl line 2 has the id 'q1' of an earlier line",)),
        ({"queries": ["nothing"]}, ("queries.jsonl line 1 is not JSON",)),
        ({"qrels": ["q1\td1\t1", "q1\td2\tyes"]}, ("test.tsv line 2 is no judgement",)),
        ({"qrels": ["q1\td1\t0"]}, ("judges no document relevant",)),
        ({"qrels": ["q3\td1\t1"]}, ("judges the query 'q3', which is not in", "queries.jsonl: add it there")),
    ],
)
def test_a_malformed_beir_folder(tmp_path: Path, changed: dict[str, list[str]], words: tuple[str, ...]) -> None:
    folder = beir(tmp_path, **changed)
    assert_refused(lambda: read_beir(folder), *words)


def test_a_beir_folder_that_lacks_a_file(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    assert_refused(
        lambda: read_beir(folder, "dev"), "has no qrels/dev.tsv: choose one of its splits with --split, test"
    )
    (folder / "queries.jsonl").unlink()
    assert_refused(lambda: read_beir(folder), "has no queries.jsonl: a BEIR folder holds corpus.jsonl, queries.jsonl")


def assert_refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
