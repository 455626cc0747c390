"""The task "rerank": scores of a query and a document, or of any pair of texts, by a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inputs import check_flag
from monograph.quality import Tolerance
from monograph.tasks.base import MIN_COSINE_BY_PRECISION, DensePostProcess, LossBound, Outputs, Task, largest_magnitude

# What may turn a logit into a score.
ACTIVATIONS = ("Identity", "Sigmoid")
# Where a graph or an engine rounds: max abs difference <= this x max(1, largest |reference|). One score has no
# direction to compare. bfloat16 moved the logits of tiny models by up to 1.6e-2 of the largest.
SCORE_TOLERANCE = 5e-2
# The same for int8 graphs: a rounding that goes the other way turns others behind it, and most where a reranker decides
# between two answers. MiniLM-L6, trained for some minutes, differed by up to 0.22 for one pair on OpenVINO (0.028 on
# ONNX Runtime), with random weights by 0.052 (0.037); by 0.77 and more where padding mask or token types were left out.
SCORE_TOLERANCE_BY_PRECISION = {"int8": 0.5}


@dataclass(frozen=True)
class RerankSection:
    """The scores of a cross-encoder: ``num_labels`` logits per pair, which ``activation`` maps to scores by default.

    ``label_names`` are the model's names of the labels, empty if it has none.
    """

    num_labels: int
    activation: str
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreAgreement:
    """The agreement of two models' logits of the same pairs; with several labels, that of the worst label.

    ``spearman`` is the rank correlation of the logits, 0 if it is undefined. The differences are absolute differences
    divided by the spread, the largest of the original's logits minus the smallest.
    """

    pairs: int
    spearman: float
    mean_difference: float
    worst_difference: float

    def describe(self) -> str:
        """Return the figures in words."""
        return (
            f"over {self.pairs} held-out pairs, rank correlation of scores with the original's {self.spearman:.4f}, "
            f"and of their spread scores move by {self.mean_difference:.2%} on average, {self.worst_difference:.2%} "
            "at most"
        )


@dataclass(frozen=True)
class ScorePostProcess(DensePostProcess):
    """Activation, then softmax over labels, in the order of ``CrossEncoder.predict``."""

    num_labels: int
    activation: str
    softmax: bool

    @property
    def width(self) -> int:
        """Columns of the result: labels."""
        return self.num_labels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the scores."""
        return np.dtype(np.float32)

    def __call__(self, outputs: Outputs) -> NDArray[np.float32]:
        """Turn logits (float32 [n, labels]) into scores of the same shape."""
        scores = _FUNCTIONS[self.activation](outputs)
        return _softmax(scores) if self.softmax else scores


class RerankTask(Task[RerankSection]):
    """Reranking and classification of pairs: pairs of texts to scores."""

    name = "rerank"
    title = "a cross-encoder"
    model = "monograph.cross_encoder:CrossEncoder"
    command = "monograph rank"
    inputs = "pairs"
    output = "logits"
    width_field = "num_labels"
    has_routes = False
    section_type = RerankSection
    agreement_type = ScoreAgreement
    # Of the spread of all scores.
    loss_bounds: ClassVar = {
        "lossless": (LossBound("spearman", minimum=0.9999), LossBound("worst_difference", maximum=0.01)),
        "high": (LossBound("spearman", minimum=0.999), LossBound("worst_difference", maximum=0.05)),
    }

    def section_problems(self, section: RerankSection) -> list[str]:
        """Return what is wrong with the values of a section."""
        problems = []
        if section.num_labels < 1:
            problems.append("num_labels must be at least 1")
        if section.activation not in ACTIVATIONS:
            problems.append(f"activation {section.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if len(section.label_names) not in (0, section.num_labels):
            problems.append(f"label_names has {len(section.label_names)} names for {section.num_labels} labels")
        return problems

    def describe(self, section: RerankSection) -> list[tuple[str, str]]:
        """Return what `monograph info` prints of a section."""
        names = f" ({', '.join(section.label_names)})" if section.label_names else ""
        return [("scores", f"{self.describe_output(section)}{names}, {section.activation} by default")]

    def describe_output(self, section: RerankSection) -> str:
        """Return what the graph gives, in a few words."""
        return "1 label" if section.num_labels == 1 else f"{section.num_labels} labels"

    def post_process(  # type: ignore[override]
        self, section: RerankSection, *, activation_fn: object = None, apply_softmax: bool | None = False
    ) -> ScorePostProcess:
        """Check the options of a call against the model and return what follows the graph.

        Raises:
            InputError: the activation is unknown.

        """
        activation = check_activation(section.activation if activation_fn is None else activation_fn)
        # One label alone would always have the probability 1; sentence-transformers leaves it as it is.
        softmax = check_flag(apply_softmax, "apply_softmax") and section.num_labels > 1
        return ScorePostProcess(section.num_labels, activation, softmax)

    def tolerance(self, reference: Outputs, float32: float, precision: str, min_cosine: float | None) -> Tolerance:
        """Return what is allowed; a score has no direction, so its value is compared wherever something rounds."""
        largest = largest_magnitude(reference)
        if MIN_COSINE_BY_PRECISION.get(precision, min_cosine) is None:
            return Tolerance(max_abs_difference=float32 * largest)
        allowed = SCORE_TOLERANCE_BY_PRECISION.get(precision, SCORE_TOLERANCE)
        return Tolerance(max_abs_difference=allowed * largest, exact=False)

    def worst_cosine(self, outputs: Outputs, reference: Outputs) -> None:  # noqa: ARG002
        """Return None: a score has no direction."""
        return


RERANK = TASK = RerankTask()


def check_activation(activation: object) -> str:
    """Return the name of a function that turns a logit into a score.

    Raises:
        InputError: it is not known.

    """
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        names = " or ".join(map(repr, ACTIVATIONS))
        raise InputError(
            f"activation_fn {activation!r} is not known: give {names}, or None for the model's; apply any other "
            "function yourself, to the scores of 'Identity'"
        )
    return activation


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
