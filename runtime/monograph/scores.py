"""From a cross-encoder's logits to scores: activation, softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.bundle.manifest import ACTIVATIONS, Rerank
from monograph.errors import InputError


@dataclass(frozen=True)
class Scoring:
    """The steps behind the graph, in the order of ``CrossEncoder.predict``: activation, then softmax over labels."""

    num_labels: int
    activation: str
    softmax: bool

    @property
    def width(self) -> int:
        """Columns of the result: labels."""
        return self.num_labels

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the scores."""
        return np.dtype(np.float32)

    def __call__(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn logits (float32 [n, ``num_labels``]) into scores of the same shape."""
        scores = _FUNCTIONS[self.activation](logits)
        return _softmax(scores) if self.softmax else scores


def plan_scores(rerank: Rerank, activation_fn: str | None, apply_softmax: bool) -> Scoring:
    """Check the options of a call against the model and return the steps.

    Raises:
        InputError: the activation is unknown.

    """
    activation = rerank.activation if activation_fn is None else activation_fn
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        names = " or ".join(map(repr, ACTIVATIONS))
        raise InputError(
            f"activation_fn {activation!r} is not known: give {names}, or None for the model's; any other is a "
            "function of your own of the scores that 'Identity' gives"
        )
    # One label alone would always have the probability 1; sentence-transformers leaves it as it is.
    return Scoring(rerank.num_labels, activation, bool(apply_softmax) and rerank.num_labels > 1)


def _identity(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return logits


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # exp of what is not positive cannot overflow.
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


_FUNCTIONS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "Identity": _identity,
    "Sigmoid": _sigmoid,
}
