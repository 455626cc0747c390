"""Scores of reranking equal a case worked out by hand and sentence-transformers' own evaluator, ties included."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

from monograph.errors import InputError
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.reranking import read_rerank, rerank_scores
from support.command import assert_error, monograph, monograph_after_imports
from support.fixed_scorer import FixedScorer

Record = Mapping[str, str | Sequence[str]]

RECORDS: list[Record] = [
    {"query": "What floats?", "positive": ["A boat floats."], "negative": ["Bread is baked.", "Nothing is written."]},
    {"query": "What is baked?", "positive": "Bread is baked.", "documents": ["A boat floats.", "Bread is baked."]},
    {"query": "Who knows?", "positive": [], "negative": ["A boat floats."]},
]


def written(folder: Path, records: Sequence[object]) -> Path:
    file = folder / "rerank.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def test_scores_by_hand(tmp_path: Path) -> None:
    records: list[Record] = [
        {"query": "q", "positive": ["a", "b"], "negative": ["c", "d"]},
        {"query": "nothing", "positive": [], "negative": ["c"]},
    ]
    # Sorted c, a, d, b.
    scorer = FixedScorer({"a": 3, "b": 1, "c": 4, "d": 2})
    assert rerank_scores(scorer, read_rerank(written(tmp_path, records))) == pytest.approx(
        {
            "map": 100 * (1 / 2 + 2 / 4) / 2 / 2,
            "mrr@10": 100 * (1 / 2) / 2,
            "ndcg@10": 100 * (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)) / 2,
        }
    )


@pytest.mark.parametrize("which", [["negative"], ["documents"], ["negative", "documents"]])
@pytest.mark.parametrize("levels", [5, 1_000_000], ids=["ties", "apart"])
def test_scores_equal_sentence_transformers(which: list[str], levels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(levels)
    texts = [f"text {number}" for number in range(200)]
    scorer = FixedScorer({text: float(rng.integers(levels)) / 7 for text in texts})
    records = []
    for number in range(40):
        chosen = rng.choice(texts, 30, replace=False).tolist()
        relevant = int(rng.integers(0, 5))
        record = {"query": f"query {number}", "positive": chosen[:relevant]}
        if which[number % len(which)] == "negative":
            records.append(record | {"negative": chosen[relevant:]})
        else:
            # Some positives are not among the documents, and some of these are there twice.
            documents = rng.permutation([*chosen[2:], *chosen[5:8]]).tolist()
            records.append(record | {"documents": documents})
    theirs = CrossEncoderRerankingEvaluator(records)(scorer)
    ours = rerank_scores(scorer, read_rerank(written(tmp_path, records)))
    assert ours.keys() == theirs.keys()
    assert len(ours) == (3 if which == ["negative"] else 6)
    for name, score in ours.items():
        assert score == pytest.approx(100 * theirs[name], abs=1e-9), name
        assert 0 < score < 100


def test_a_positive_may_be_one_text(tmp_path: Path) -> None:
    one, other = read_rerank(written(tmp_path, [RECORDS[1], dict(RECORDS[1]) | {"positive": ["Bread is baked."]}]))
    assert one == other
    assert (one.documents, one.relevant) == (["Bread is baked.", "A boat floats."], [True, False])
    assert one.before == [False, True]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"positive": ["a"], "negative": ["b"]}, ("no text in the field 'query'",)),
        ({"query": "q", "negative": ["b"]}, ("no list of texts in the field 'positive'",)),
        ({"query": "q", "positive": ["a", 1], "negative": ["b"]}, ("no list of texts in the field 'positive'",)),
        ({"query": "q", "positive": ["a"], "negative": "b"}, ("no list of texts in the field 'negative'",)),
        ({"query": "q", "positive": ["a"]}, ('has neither of "negative" and "documents"', "write {")),
        ({"query": "q", "positive": ["a"], "negative": [], "documents": ["a"]}, ('has both of "negative"', "write {")),
        ({"query": "q", "positive": ["a"], "documents": []}, ('no text in "documents"', "give at least one")),
        ({"query": "q", "positive": ["a"], "negative": []}, ("has one document", "add another")),
        ({"query": "q", "positive": ["a"], "documents": ["a", "a"]}, ("has one document",)),
        ({"query": "q", "positive": ["\ud800"], "negative": ["b"]}, ("holds a lone surrogate",)),
        (["q"], ("is JSON, and not an object",)),
    ],
)
def test_a_bad_record_is_an_error_with_its_line(record: object, words: tuple[str, ...], tmp_path: Path) -> None:
    file = written(tmp_path, [RECORDS[0], record])
    with pytest.raises(InputError) as caught:
        read_rerank(file)
    message = str(caught.value)
    assert message.startswith(f"{file} line 2 ")
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_records_that_allow_no_score_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty: write"):
        read_rerank(written(tmp_path, []))
    with pytest.raises(InputError, match='no text in any "positive"'):
        read_rerank(written(tmp_path, [RECORDS[2]]))


def test_scores_that_allow_no_order_are_an_error(tmp_path: Path) -> None:
    queries = read_rerank(written(tmp_path, RECORDS[:1]))
    broken = FixedScorer({"A boat floats.": 1, "Bread is baked.": math.nan, "Nothing is written.": 0})
    with pytest.raises(EvaluationError, match=r"1 of 3 scores are not finite, that of 'Bread is baked\.'"):
        rerank_scores(broken, queries)

    class Classifier:
        def predict(self, pairs: list[tuple[str, str]]) -> Any:
            return np.zeros((len(pairs), 3), np.float32)

    with pytest.raises(EvaluationError, match="gives 3 scores a pair, one a class"):
        rerank_scores(Classifier(), queries)


def test_the_command_beside_sentence_transformers(
    tiny_cross_bundle: Path, tiny_cross_checkpoint: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, RECORDS)
    done = monograph_after_imports(
        "eval", tiny_cross_bundle, "--device", "cpu", "--rerank", file, "--reference", f"st:{tiny_cross_checkpoint}",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["reference"]["runs_on"].startswith("cpu (torch ")
    names = ["map", "mrr@10", "ndcg@10"]
    assert [row["metric"] for row in report["scores"]] == names + [f"base_{name}" for name in names]
    for row in report["scores"]:
        assert (row["queries"], row["pairs"], row["queries_without_a_positive"]) == (3, 6, 1)
        assert row["difference"] == 0
    # The one query with documents has its answer in the second place.
    assert [row["score"] for row in report["scores"][3:5]] == [50, 50]


@pytest.mark.parametrize(
    ("option", "of_pairs", "words"),
    [
        ("--rerank", False, "--rerank is for models of the task rerank, and {model} is of the task embedding: give it"),
        ("--retrieval", True, "and {model} is of the task rerank: give it --rerank"),
        ("--sts", True, "--sts is for models of the task embedding, and {model} is of the task rerank"),
        ("--translation", True, "--translation is for models of the task embedding"),
        ("--mse", True, "--mse is for models of the task embedding"),
    ],
)
def test_a_task_that_does_not_fit_the_bundle_is_refused_in_one_line(
    option: str, of_pairs: bool, words: str, tiny_bundle: Path, tiny_cross_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("q\td\t1\n")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "A boat."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "What floats?"}\n')
    (tmp_path / "sts").write_text("A boat.\tA ship.\t4\nA boat.\tBread.\t0\n")
    (tmp_path / "pairs").write_text("A boat.\tEin Boot.\n")
    given: dict[str, list[object]] = {
        "--rerank": [written(tmp_path, RECORDS)],
        "--retrieval": [tmp_path],
        "--sts": [tmp_path / "sts"],
        "--translation": [tmp_path / "pairs"],
        "--mse": [tmp_path / "sts", "--teacher", tiny_bundle],
    }
    model = tiny_cross_bundle if of_pairs else tiny_bundle
    assert_error(monograph("eval", model, option, *given[option]), 1, words.format(model=model))


def test_a_reference_or_teacher_of_another_task_is_refused(
    tiny_bundle: Path, tiny_cross_bundle: Path, tiny_cross_checkpoint: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, RECORDS)
    refused = f"--rerank is for models of the task rerank, and {tiny_bundle} is of the task embedding"
    assert_error(monograph("eval", tiny_cross_bundle, "--rerank", file, "--reference", tiny_bundle), 1, refused)
    teacher = f"st:{tiny_cross_checkpoint}"
    (tmp_path / "texts").write_text("A boat.\n")
    done = monograph_after_imports("eval", tiny_bundle, "--mse", tmp_path / "texts", "--teacher", teacher)
    assert_error(done, 1, f"--mse is for models of the task embedding, and {teacher} is of the task rerank")
