"""Where evaluators of sentence-transformers leave their results: ``model.model_card_data``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class EvaluationResults:
    """The last metrics of each evaluator, by the evaluator's name."""

    __slots__ = ("metrics",)

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}

    def set_evaluation_metrics(
        self,
        evaluator: Any,
        metrics: Mapping[str, float],
        epoch: int = 0,  # noqa: ARG002
        step: int = 0,  # noqa: ARG002
    ) -> None:
        """Take the metrics of an evaluator, which calls this after each evaluation."""
        self.metrics[getattr(evaluator, "name", "") or type(evaluator).__name__] = dict(metrics)
