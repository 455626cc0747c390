"""What may be asked of a compression. Imports nothing heavy, for the command line reads it before torch is there."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields

from monograph.errors import ExportError
from monograph_export.compression.texts import CalibrationFile

PRECISIONS = ("fp32", "fp16", "int8")
TABLES = ("fp32", "int8")
LEAST_RANK_CORRELATION = 0.99
MOST_SCORE_MOVE = 0.1
# A trained reranker is sure of nearly all pairs, and int8 layers hardly move these; one that it is not sure of jumps.
# Of a MiniLM-L6 trained for some minutes, the scores of 360 pairs moved by 0.2 to 0.3 % of their spread on average, by
# 4.7 % at the 99th percentile, and one by 15 %; of the pairs calibrated with one by 23 %, and with a third of all
# inputs in float32 still by 17 %, so that 0.1 refused it. At random weights none moved by more than 8 %. How pairs are
# sorted has the same limit as without int8 layers.
MOST_SCORE_MOVE_AT_INT8 = 0.25


@dataclass(frozen=True)
class Limits:
    """The least agreement with the original with which a bundle is written."""

    mean_cosine: float = 0.99
    worst_cosine: float = 0.93
    neighbour_agreement: float = 0.88

    def tightened(self, share: float) -> Limits:
        """Return limits that allow only a share of the loss that these allow."""
        return Limits(**{name: 1 - share * (1 - least) for name, least in asdict(self).items()})

    def given(self) -> list[str]:
        """Return the options whose values are not the defaults."""
        return [
            f"--min-{limit.name.replace('_', '-')}"
            for limit in fields(self)
            if getattr(self, limit.name) != limit.default
        ]


@dataclass(frozen=True)
class ScoreLimits:
    """The least agreement of scores of pairs with which a bundle is written.

    ``spearman`` is the least rank correlation, ``worst_difference`` the most that a score may move, as a part of the
    spread of all.
    """

    spearman: float
    worst_difference: float

    def tightened(self, share: float) -> ScoreLimits:
        """Return limits that allow only a share of the loss that these allow."""
        return ScoreLimits(1 - share * (1 - self.spearman), share * self.worst_difference)


@dataclass(frozen=True)
class SparseLimits:
    """The least agreement of sparse vectors, beside that of ``Limits``, with which a bundle is written.

    ``active_overlap`` is the least share of dimensions, of those active in either of a text's two vectors, that are
    active in both, on average.
    """

    active_overlap: float = 0.8

    def tightened(self, share: float) -> SparseLimits:
        """Return limits that allow only a share of the loss that these allow."""
        return SparseLimits(1 - share * (1 - self.active_overlap))

    def given(self) -> list[str]:
        """Return the options whose values are not the defaults."""
        return [] if self == SparseLimits() else ["--min-active-overlap"]


@dataclass(frozen=True)
class Compression:
    """What is asked for.

    ``table`` None is int8 for large vocabularies and with int8 layers, float32 otherwise; ``calibration`` None are
    texts by default; ``max_score_move`` None is what its precision may cost.
    """

    precision: str = "fp32"
    table: str | None = None
    calibration: CalibrationFile | None = None
    reduce_range: bool = False
    limits: Limits = field(default_factory=Limits)
    min_rank_correlation: float = LEAST_RANK_CORRELATION
    max_score_move: float | None = None
    sparse_limits: SparseLimits = field(default_factory=SparseLimits)

    @property
    def score_limits(self) -> ScoreLimits:
        """The limits of a cross-encoder."""
        most = self.max_score_move
        if most is None:
            most = MOST_SCORE_MOVE_AT_INT8 if self.precision == "int8" else MOST_SCORE_MOVE
        return ScoreLimits(self.min_rank_correlation, most)

    def given_score_limits(self) -> list[str]:
        """Return the options of a cross-encoder's limits whose values are not the defaults."""
        return [
            *(["--min-rank-correlation"] if self.min_rank_correlation != LEAST_RANK_CORRELATION else []),
            *(["--max-score-move"] if self.max_score_move is not None else []),
        ]

    def check(self) -> None:
        """Refuse what no model can be compressed to.

        Raises:
            ExportError: an unknown precision or table, options that only int8 layers have without these, or a limit
                that no agreement has.

        """
        if self.precision not in PRECISIONS:
            raise ExportError(f"precision {self.precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        if self.table not in (None, *TABLES):
            raise ExportError(f"table {self.table!r} is not known: choose one of {', '.join(TABLES)}")
        if self.precision != "int8" and (self.calibration is not None or self.reduce_range):
            raise ExportError("calibration texts and a reduced range are for --precision int8, which was not asked for")
        others = {"rank_correlation": self.score_limits.spearman, "active_overlap": self.sparse_limits.active_overlap}
        for name, least in (asdict(self.limits) | others).items():
            # Written so that NaN is refused.
            if not -1 <= least <= 1:
                raise ExportError(f"the limit of the {name.replace('_', ' ')} must lie between -1 and 1, got {least}")
        if not 0 <= self.score_limits.worst_difference < math.inf:
            raise ExportError(
                "the limit of what a score moves must be a part of the scores' spread, 0 or more, got "
                f"{self.score_limits.worst_difference}"
            )
