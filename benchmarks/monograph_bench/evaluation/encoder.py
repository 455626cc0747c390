"""What can be evaluated: anything that embeds texts and compares vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monograph.errors import MonographError

Vectors = NDArray[np.float32]


class EvaluationError(MonographError):
    """A model's vectors allow no score."""


class Encoder(Protocol):
    """An Embedder, or a SentenceTransformer.

    The three methods that embed take n texts and return float vectors [n, d]; ``similarity`` takes vectors [n, d] and
    [m, d] and returns [n, m], larger for what is more alike. Results may be arrays or tensors on the CPU.
    """

    def encode(self, texts: list[str], /) -> Any:
        """Embed texts, behind the model's default prompt if it has one."""

    def encode_query(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for queries."""

    def encode_document(self, texts: list[str], /) -> Any:
        """Embed texts behind the model's prompt for documents."""

    def similarity(self, first: Vectors, second: Vectors, /) -> Any:
        """Compare every vector with every other by the model's own function."""


def embed(encode: Callable[[list[str]], Any], texts: list[str]) -> Vectors:
    """Return the vectors of texts, float32 [n, d], by one of an encoder's methods.

    Raises:
        EvaluationError: a vector has a value that is infinite or not a number.

    """
    vectors = np.asarray(encode(texts), dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise not_finite(texts, broken)
    return vectors


def not_finite(texts: Sequence[str], broken: NDArray[np.intp]) -> EvaluationError:
    """Return the error of vectors with values that are not finite: those of the texts at some positions."""
    return EvaluationError(
        f"{len(broken)} of {len(texts)} vectors have values that are not finite, that of {texts[broken[0]][:60]!r} for "
        "one: run `monograph verify` on the bundle"
    )
