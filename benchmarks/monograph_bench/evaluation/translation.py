"""Translation accuracy: whether a text's translation is its nearest neighbour in the other language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monograph_bench.evaluation.encoder import Encoder, embed
from monograph_bench.evaluation.neighbours import Indices, nearest_both_ways


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


def _accuracy(wanted: Sequence[str], found: Indices) -> float:
    hits = sum(wanted[int(place)] == text for text, place in zip(wanted, found, strict=True))
    return 100 * hits / len(wanted)
