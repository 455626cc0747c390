"""How near to the original a compressed model must be to be written, for each kind of what a model gives.

Imports nothing heavy, for the command line reads it before torch is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from monograph.errors import ExportError

_OPTION = "option"


def _limit(default: float, option: str) -> Any:
    return field(default=default, metadata={_OPTION: option})


@dataclass(frozen=True)
class Limits:
    """The least of each figure of a comparison, 1 for no loss, by the figure's name."""

    def given(self) -> list[str]:
        """Return the options whose values are not the defaults."""
        return [limit.metadata[_OPTION] for limit in fields(self) if getattr(self, limit.name) != limit.default]

    def tightened(self, share: float) -> Self:
        """Return limits that allow only a share of the loss that these allow."""
        return replace(self, **{name: 1 - share * (1 - least) for name, least in self.to_json().items()})

    def broken(self, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Return which figures are beyond their limits, in words; nothing where all hold. NaN does not hold."""
        return tuple(
            f"{_words(name)} {figures[name]:.4f} is below {least}"
            for name, least in self.to_json().items()
            if not figures[name] >= least
        )

    def check(self) -> None:
        """Refuse limits that no figure has.

        Raises:
            ExportError: naming the first.

        """
        for name, least in self.to_json().items():
            # Written so that NaN is refused.
            if not -1 <= least <= 1:
                raise ExportError(f"the limit of the {_words(name)} must lie between -1 and 1, got {least}")

    def to_json(self) -> dict[str, float]:
        """Return the limits as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class VectorLimits(Limits):
    """Limits of vectors."""

    mean_cosine: float = _limit(0.99, "--min-mean-cosine")
    worst_cosine: float = _limit(0.93, "--min-worst-cosine")
    neighbour_agreement: float = _limit(0.88, "--min-neighbour-agreement")


@dataclass(frozen=True)
class SparseLimits(VectorLimits):
    """Limits of sparse vectors.

    ``active_overlap`` is the least share of dimensions, of those active in either of a text's two vectors, that are
    active in both, on average.
    """

    active_overlap: float = _limit(0.8, "--min-active-overlap")


@dataclass(frozen=True)
class ScoreLimits(Limits):
    """Limits of scores of pairs.

    ``spearman`` is the least rank correlation, ``worst_difference`` the most that a score may move, as a part of the
    spread of all.
    """

    spearman: float = _limit(0.99, "--min-rank-correlation")
    worst_difference: float = _limit(0.1, "--max-score-move")

    def tightened(self, share: float) -> Self:
        """Return limits that allow only a share of the loss that these allow."""
        return replace(self, spearman=1 - share * (1 - self.spearman), worst_difference=share * self.worst_difference)

    def broken(self, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Return which figures are beyond their limits, in words; nothing where all hold. NaN does not hold."""
        spearman, moved = figures["spearman"], figures["worst_difference"]
        broken = []
        if not spearman >= self.spearman:
            broken.append(f"rank correlation {spearman:.4f} is below {self.spearman}")
        if not moved <= self.worst_difference:
            broken.append(f"a score moves by {moved:.2%} of the spread, above {self.worst_difference:.2%}")
        return tuple(broken)

    def check(self) -> None:
        """Refuse limits that no figure has.

        Raises:
            ExportError: naming the first.

        """
        if not -1 <= self.spearman <= 1:
            raise ExportError(f"the limit of the rank correlation must lie between -1 and 1, got {self.spearman}")
        if not 0 <= self.worst_difference < math.inf:
            raise ExportError(
                "the limit of what a score moves must be a part of the scores' spread, 0 or more, got "
                f"{self.worst_difference}"
            )


@dataclass(frozen=True)
class Int8ScoreLimits(ScoreLimits):
    """Limits of scores by int8 layers.

    A trained reranker is sure of nearly all pairs, and int8 layers hardly move these; one that it is not sure of jumps.
    Of a MiniLM-L6 trained for some minutes, the scores of 360 pairs moved by 0.2 to 0.3 % of their spread on average,
    by 4.7 % at the 99th percentile, and one by 15 %; of the pairs calibrated with one by 23 %, and with a third of all
    inputs in float32 still by 17 %, so that 0.1 refused it. At random weights none moved by more than 8 %.
    """

    worst_difference: float = _limit(0.25, "--max-score-move")


def score_limits(precision: str, min_rank_correlation: float, max_score_move: float | None) -> ScoreLimits:
    """Return the limits of scores at a precision of the layers; None is its own most move."""
    kind = Int8ScoreLimits if precision == "int8" else ScoreLimits
    if max_score_move is None:
        return kind(min_rank_correlation)
    return kind(min_rank_correlation, max_score_move)


def _words(name: str) -> str:
    return name.replace("_", " ")
