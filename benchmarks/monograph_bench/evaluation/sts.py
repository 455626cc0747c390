"""Semantic textual similarity: pairs of sentences with gold scores, and whether similarities order them alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr

from monograph.errors import InputError
from monograph.similarity import similarity_pairwise
from monograph_bench.evaluation.encoder import Encoder, EvaluationError, Vectors, embed
from monograph_bench.evaluation.records import json_records, numbered_lines, table_rows

# What the columns are called: by STSbenchmark and GLUE, and by SICK.
_NAMES = (("sentence1", "sentence_a"), ("sentence2", "sentence_b"), ("score", "relatedness_score"))
# STSbenchmark without header: genre, file, year, number, score, sentences and now and then the sentences' sources.
_STSB_COLUMNS, _STSB_MIN = (5, 6, 4), 7
_LAYOUTS = (
    "give it a first line that names columns sentence1, sentence2 and score; or three columns, the score first or "
    "last; or the seven of STSbenchmark; or, with the scores in a file of their own, name that behind it"
)

Row = tuple[str, str, float]


@dataclass(frozen=True)
class StsPairs:
    """Pairs of sentences, at least two, and people's score of each pair; not all scores are equal."""

    first: list[str]
    second: list[str]
    gold: list[float]


def sts_scores(encoder: Encoder, pairs: StsPairs, functions: Sequence[str]) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation of similarities with the gold scores, in points of 100.

    ``functions`` are names of ``monograph.similarity``; the keys are "pearson_cosine", "spearman_cosine" and so on, as
    sentence-transformers' EmbeddingSimilarityEvaluator names them. Both sides are embedded with ``encode``. The
    formulas are scipy's; tied values have the mean of their ranks.

    Raises:
        EvaluationError: vectors are not finite, or all pairs are equally similar, so that nothing correlates.

    """
    first, second = embed(encoder.encode, pairs.first), embed(encoder.encode, pairs.second)
    scores: dict[str, float] = {}
    for function in functions:
        scores |= correlations(first, second, pairs.gold, function)
    return scores


def correlations(first: Vectors, second: Vectors, gold: Sequence[float], function: str) -> dict[str, float]:
    """Return both correlations of a function of the vectors of pairs, finite float32 [n, d] each, as ``sts_scores``.

    Raises:
        EvaluationError: all pairs are equally similar.

    """
    similarities = similarity_pairwise(function, first, second)
    if np.ptp(similarities) == 0:
        raise EvaluationError(
            f"all {len(gold)} pairs have the same {function} similarity, {similarities[0]:.4f}, which correlates with "
            "nothing: run `monograph verify` on the bundle"
        )
    return {
        f"pearson_{function}": 100 * float(pearsonr(gold, similarities).statistic),
        f"spearman_{function}": 100 * float(spearmanr(gold, similarities).statistic),
    }


def read_sts(pairs_file: Path, gold_file: Path | None = None) -> StsPairs:
    """Read pairs and scores from one file, or as SemEval keeps them from two, whose lines belong together.

    One file: a table, separated by tabs or commas, whose first line names its columns; three columns, of which the
    first or the last is the score; STSbenchmark's seven; or JSON lines (.jsonl) with sentence1, sentence2 and score.
    Two files: the sentences in the first two columns, separated by tabs, and a score a line; pairs whose line of scores
    is blank were not judged and are left out.

    Raises:
        InputError: naming file and line that do not fit, or why the pairs as a whole allow no correlation.
        OSError: a file cannot be read.

    """
    if gold_file is not None:
        rows = _semeval_rows(pairs_file, gold_file)
    elif pairs_file.suffix == ".jsonl":
        rows = _json_rows(pairs_file)
    else:
        rows = _table_rows(pairs_file)
    pairs = list(rows)
    scores = gold_file or pairs_file
    if len(pairs) < 2:
        raise InputError(f"{scores} has {len(pairs)} judged pairs: a correlation needs at least two")
    first, second, gold = map(list, zip(*pairs, strict=True))
    if len(set(gold)) == 1:
        raise InputError(f"{scores} gives all {len(gold)} pairs the score {gold[0]:g}: nothing correlates with that")
    return StsPairs(first, second, gold)


def _table_rows(file: Path) -> Iterator[Row]:
    rows = table_rows(file)
    number, fields = next(rows, (1, []))
    columns, is_header = _columns(fields, f"{file} line {number}")
    expected = len(fields)
    if not is_header:
        yield _row(fields, columns, f"{file} line {number}")
    for number, fields in rows:
        where = f"{file} line {number}"
        # STSbenchmark is ragged at its end; elsewhere another column is a separator inside a sentence.
        fits = len(fields) >= _STSB_MIN if columns == _STSB_COLUMNS and not is_header else len(fields) == expected
        if not fits:
            raise InputError(f"{where} has {len(fields)} columns where the first has {expected}: {_LAYOUTS}")
        yield _row(fields, columns, where)


def _columns(fields: list[str], where: str) -> tuple[tuple[int, int, int], bool]:
    """Return where a table has first sentence, second sentence and score, and whether its first line says so."""
    names = [field.strip().lower() for field in fields]
    named = tuple(next((names.index(name) for name in known if name in names), -1) for known in _NAMES)
    if -1 not in named:
        return (named[0], named[1], named[2]), True
    if len(fields) >= _STSB_MIN and _is_number(fields[_STSB_COLUMNS[2]]):
        return _STSB_COLUMNS, False
    if len(fields) == 3 and _is_number(fields[0]) != _is_number(fields[2]):
        return ((1, 2, 0) if _is_number(fields[0]) else (0, 1, 2)), False
    raise InputError(f"{where} is of no layout known for STS: {_LAYOUTS}")


def _row(fields: list[str], columns: tuple[int, int, int], where: str) -> Row:
    first, second, score = (fields[column] for column in columns)
    return first, second, _score(score, where)


def _json_rows(file: Path) -> Iterator[Row]:
    for number, record in json_records(file):
        where = f"{file} line {number}"
        first, second, score = (next((record[name] for name in known if name in record), None) for known in _NAMES)
        if not isinstance(first, str) or not isinstance(second, str) or isinstance(score, bool | None):
            raise InputError(f"{where} must have texts in sentence1 and sentence2 and a number in score")
        yield first, second, _score(str(score), where)


def _semeval_rows(pairs_file: Path, gold_file: Path) -> Iterator[Row]:
    pairs = list(numbered_lines(pairs_file))
    scores = list(numbered_lines(gold_file))
    if len(pairs) != len(scores):
        raise InputError(
            f"{pairs_file} has {len(pairs)} lines and {gold_file} {len(scores)}: each pair needs its score, on the "
            "same line"
        )
    for (number, line), (_, score) in zip(pairs, scores, strict=True):
        if not score.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise InputError(f"{pairs_file} line {number} has no tab: put one between the two sentences")
        yield fields[0], fields[1], _score(score, f"{gold_file} line {number}")


def _score(text: str, where: str) -> float:
    if not _is_number(text):
        raise InputError(f"{where}: {text.strip()[:40]!r} is not a score: give a number, with a decimal point if any")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
