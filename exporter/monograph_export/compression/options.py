"""The options of a compression: precisions, and bounds of what it may cost.

Imports nothing heavy, for the command line reads it before torch is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monograph.errors import ExportError
from monograph.quality import Agreement
from monograph_export.compression.texts import CalibrationFile

# Of these, int8-weights rounds weights alone and int8 what they are multiplied with as well.
PRECISIONS = ("fp32", "fp16", "int8", "int8-weights")
TABLES = ("fp32", "int8")
# Above this many rows the table is most of a model, and int8 is the default. Such models are multilingual.
LARGE_VOCABULARY = 100_000


@dataclass(frozen=True)
class CompressionOptions:
    """The precisions of layers and of the table of token embeddings.

    ``table`` None is int8 for large vocabularies and with layers of int8 or int8-weights, float32 otherwise;
    ``calibration`` None are the texts of the task. ``reduce_range`` limits the weights of int8 layers to 7 bits.
    """

    precision: str = "fp32"
    table: str | None = None
    calibration: CalibrationFile | None = None
    reduce_range: bool = False

    def check(self) -> None:
        """Refuse what no model can be compressed to.

        Raises:
            ExportError: an unknown precision or table, or options of int8 layers without these.

        """
        if self.precision not in PRECISIONS:
            raise ExportError(f"precision {self.precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        if self.table not in (None, *TABLES):
            raise ExportError(f"table {self.table!r} is not known: choose one of {', '.join(TABLES)}")
        if self.precision != "int8" and (self.calibration is not None or self.reduce_range):
            raise ExportError("calibration texts and a reduced range are for --precision int8 only: add it")


def split_precisions(value: str) -> tuple[str, ...]:
    """Return the names of precisions that commas separate."""
    return tuple(name.strip() for name in value.split(","))


def compression_options(
    precision: str | Sequence[str], table: str | None, calibration: CalibrationFile | None, *, reduce_range: bool
) -> tuple[CompressionOptions, ...]:
    """Return the checked options of each precision, given as a sequence or separated by commas.

    Beside int8, other precisions do without the options that are its own.

    Raises:
        ExportError: as ``CompressionOptions.check``, or a precision is there twice, or none is.

    """
    names = split_precisions(precision) if isinstance(precision, str) else tuple(precision)
    if not names or len(set(names)) < len(names):
        raise ExportError(f"precision has {', '.join(names) or 'nothing'}: name each precision once")
    options = []
    for name in names:
        has_int8_options = name == "int8" or "int8" not in names
        options.append(
            CompressionOptions(
                name, table, calibration if has_int8_options else None, reduce_range and has_int8_options
            )
        )
        options[-1].check()
    return tuple(options)


@dataclass(frozen=True)
class Limit:
    """A minimum of a figure for which 1 means no loss.

    ``figure`` is its field in the agreement, ``keyword`` its argument of ``export``. ``refused`` says in words what is
    not exported. ``defaults`` are those of some precisions of the layers, ``default`` that of all others.
    """

    figure: str
    keyword: str
    refused: str
    default: float
    defaults: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def option(self) -> str:
        """The option of the command line."""
        return f"--{self.keyword.replace('_', '-')}"

    def default_at(self, precision: str) -> float:
        """Return the default at a precision of the layers."""
        return self.defaults.get(precision, self.default)

    def check(self, bound: float) -> None:
        """Refuse a bound that no figure has.

        Raises:
            ExportError: it is one.

        """
        # Written so that NaN is refused.
        if not -1 <= bound <= 1:
            raise ExportError(f"the limit of the {self._noun} must lie between -1 and 1, got {bound}")

    def violation(self, figure: float, bound: float) -> str:
        """Return in words how a figure violates a bound, "" where it does not. NaN violates it."""
        if figure >= bound:
            return ""
        # As many digits as tell the two apart.
        shown = next((text for digits in range(4, 16) if float(text := f"{figure:.{digits}f}") != bound), str(figure))
        return f"{self._noun} {shown} is below {bound}"

    @property
    def _noun(self) -> str:
        return self.keyword.removeprefix("min_").replace("_", " ")


class ScoreMoveLimit(Limit):
    """A maximum of how far a score may move, relative to the spread of all."""

    def check(self, bound: float) -> None:
        """Refuse a bound that no score's move has."""
        if not 0 <= bound < math.inf:
            raise ExportError(
                f"the limit of a score's move is relative to the spread of all scores, so 0 or more, got {bound}"
            )

    def violation(self, figure: float, bound: float) -> str:
        """Return in words how a move violates a bound, "" where it does not. NaN violates it."""
        return "" if figure <= bound else f"a score moves by {figure:.2%} of the spread, above {bound:.2%}"


# MiniLM with int8 weights: mean cosine 0.9998, worst 0.999.
MEAN_COSINE = Limit(
    "mean_cosine",
    "min_mean_cosine",
    "bundle of compressed vectors with a lower mean cosine to the original's",
    0.99,
    defaults={"int8-weights": 0.999},
)
WORST_COSINE = Limit(
    "worst_cosine",
    "min_worst_cosine",
    "bundle of compressed vectors with a text of a lower cosine",
    0.93,
    defaults={"int8-weights": 0.99},
)
NEIGHBOUR_AGREEMENT = Limit(
    "neighbour_agreement",
    "min_neighbour_agreement",
    "bundle of compressed vectors with fewer texts that keep their nearest neighbour",
    0.88,
)
RANK_CORRELATION = Limit(
    "spearman",
    "min_rank_correlation",
    "compressed cross-encoder that sorts pairs less alike, by the rank correlation of their scores",
    0.99,
    defaults={"int8-weights": 0.999},
)
# A trained reranker is sure of nearly all pairs, and int8 layers hardly move these; one that it is not sure of jumps.
# Of a MiniLM-L6 trained for some minutes, the scores of 360 pairs moved by 0.2 to 0.3 % of their spread on average,
# by 4.7 % at the 99th percentile, and one by 15 %; of the pairs calibrated with one by 23 %. At random weights none
# moved by more than 8 %. Measured with a static range for every input.
SCORE_MOVE = ScoreMoveLimit(
    "worst_difference",
    "max_score_move",
    "compressed cross-encoder with a score that moves by more, relative to the spread of all",
    0.1,
    defaults={"int8": 0.25},
)
ACTIVE_OVERLAP = Limit(
    "active_overlap",
    "min_active_overlap",
    "compressed sparse encoder whose vectors share fewer of their active dimensions with the original's",
    0.8,
)
LIMITS = (MEAN_COSINE, WORST_COSINE, NEIGHBOUR_AGREEMENT, RANK_CORRELATION, SCORE_MOVE, ACTIVE_OVERLAP)


@dataclass(frozen=True)
class RequestedLimits:
    """What a caller requests of each limit, of whatever task, at a precision of the layers; None is the default."""

    bounds: Mapping[Limit, float | None]
    precision: str

    def check(self) -> None:
        """Refuse bounds that no figure has.

        Raises:
            ExportError: naming the first.

        """
        for limit, bound in self.bounds.items():
            if bound is not None:
                limit.check(bound)

    @property
    def options(self) -> list[str]:
        """The options whose values are not the defaults."""
        return [
            limit.option
            for limit, bound in self.bounds.items()
            if bound not in (None, limit.default_at(self.precision))
        ]

    def of(self, limits: Iterable[Limit]) -> Limits:
        """Return the bounds of some limits."""
        requested = ((limit, self.bounds.get(limit)) for limit in limits)
        return Limits(
            {limit: limit.default_at(self.precision) if bound is None else bound for limit, bound in requested}
        )


@dataclass(frozen=True)
class Limits:
    """The bounds that an agreement has to keep."""

    bounds: Mapping[Limit, float]

    def only(self, limits: Iterable[Limit]) -> Limits:
        """Return the bounds of some of the limits."""
        return Limits({limit: self.bounds[limit] for limit in limits})

    def violations(self, agreement: Agreement) -> tuple[str, ...]:
        """Return in words which figures violate their bounds."""
        lines = (limit.violation(getattr(agreement, limit.figure), bound) for limit, bound in self.bounds.items())
        return tuple(filter(None, lines))

    def to_json(self) -> dict[str, float]:
        """Return the bounds by their figures."""
        return {limit.figure: bound for limit, bound in self.bounds.items()}
