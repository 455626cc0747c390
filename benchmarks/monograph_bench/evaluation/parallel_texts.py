"""Texts and their translations: read from files, matched by nearest neighbour, or compared with a teacher's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from monograph.errors import InputError
from monograph_bench.evaluation.encoder import Encoder, EvaluationError, embed
from monograph_bench.evaluation.neighbours import Indices, nearest_both_ways
from monograph_bench.evaluation.records import numbered_lines

# Texts whose vectors are in memory at a time, of both models.
_BLOCK = 8192
Item = TypeVar("Item")


@dataclass(frozen=True)
class ParallelTexts:
    """Texts and their translations, at least one pair: ``target[i]`` is that of ``source[i]``."""

    source: list[str]
    target: list[str]


def translation_scores(encoder: Encoder, texts: ParallelTexts) -> dict[str, float]:
    """Return the share of texts whose nearest neighbour by cosine is their translation, in points of 100.

    The keys are those of sentence-transformers' TranslationEvaluator, and so is the definition: a neighbour that reads
    exactly like the translation counts, wherever it stands. Both sides are embedded with ``encode``.

    Raises:
        EvaluationError: vectors are not finite.

    """
    to_target, to_source = nearest_both_ways(embed(encoder.encode, texts.source), embed(encoder.encode, texts.target))
    there, back = _accuracy(texts.target, to_target), _accuracy(texts.source, to_source)
    return {"src2trg_accuracy": there, "trg2src_accuracy": back, "mean_accuracy": (there + back) / 2}


def distance_scores(encoder: Encoder, teacher: Encoder, texts: ParallelTexts) -> dict[str, float]:
    """Return the mean squared difference between the values of both models' vectors, times 100: less is better.

    The teacher embeds ``texts.source`` and the model ``texts.target``, both with ``encode``: translations, or the same
    texts twice. Sentence-transformers' MSEEvaluator computes the same, and reports it negated as "negative_mse".

    Raises:
        EvaluationError: vectors are not finite, or the models' dimensions differ.

    """
    total, values = 0.0, 0
    for start in range(0, len(texts.source), _BLOCK):
        block = slice(start, start + _BLOCK)
        expected, vectors = embed(teacher.encode, texts.source[block]), embed(encoder.encode, texts.target[block])
        if expected.shape != vectors.shape:
            raise EvaluationError(
                f"the teacher's vectors have {expected.shape[1]} dimensions and the model's {vectors.shape[1]}: their "
                "distance is not defined, name another --teacher"
            )
        # Sums in float64: of millions of values float32 would keep too few digits.
        total += float(np.square(expected - vectors, dtype=np.float64).sum())
        values += vectors.size
    return {"mse": 100 * total / values}


def read_parallel(source_file: Path, target_file: Path | None = None) -> ParallelTexts:
    """Read translations: line i of one file is that of line i of the other; or both on a line, a tab between them.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    if target_file is None:
        return _pairs(source_file)
    source, target = read_lines(source_file), read_lines(target_file)
    if len(source) != len(target):
        raise InputError(
            f"{source_file} has {len(source)} lines and {target_file} {len(target)}: line i of one must be the "
            "translation of line i of the other"
        )
    return ParallelTexts(source, target)


def read_lines(file: Path) -> list[str]:
    """Return the texts of a file, one per line, at least one and none of them blank.

    Raises:
        InputError: naming the file and the line that is blank or not UTF-8.
        OSError: the file cannot be read.

    """
    texts = []
    for number, text in numbered_lines(file):
        if not text.strip():
            raise InputError(f"{file} line {number} is blank: remove the line, and the one that belongs to it")
        texts.append(text)
    return _some(texts, file)


def _accuracy(translations: Sequence[str], nearest: Indices) -> float:
    hits = sum(translations[int(place)] == text for text, place in zip(translations, nearest, strict=True))
    return 100 * hits / len(translations)


def _pairs(file: Path) -> ParallelTexts:
    pairs = []
    for number, line in numbered_lines(file):
        fields = line.split("\t")
        # More columns are ids or further languages, and which two are meant is not ours to guess.
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise InputError(
                f"{file} line {number} is not two texts with a tab between them ({len(fields)} columns): choose two "
                "with `cut -f`, or name two files with one text per line"
            )
        pairs.append((fields[0], fields[1]))
    source, target = map(list, zip(*_some(pairs, file), strict=True))
    return ParallelTexts(source, target)


def _some(items: list[Item], file: Path) -> list[Item]:
    if not items:
        raise InputError(f"{file} is empty: give at least one text")
    return items
