"""Distance to a teacher: how far a model's vectors are from those of the model that it is to imitate."""

from __future__ import annotations

import numpy as np

from monograph_bench.evaluation.encoder import Encoder, EvaluationError, embed
from monograph_bench.evaluation.translation import ParallelTexts

# Texts whose vectors are in memory at a time, of both models.
_BLOCK = 8192


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
        wanted, found = embed(teacher.encode, texts.source[block]), embed(encoder.encode, texts.target[block])
        if wanted.shape != found.shape:
            raise EvaluationError(
                f"the teacher's vectors have {wanted.shape[1]} dimensions and the model's {found.shape[1]}: their "
                "distance is not defined, name another --teacher"
            )
        # Sums in float64: of millions of values float32 would keep too few digits.
        total += float(np.square(wanted - found, dtype=np.float64).sum())
        values += found.size
    return {"mse": 100 * total / values}
