"""What may be asked of a compression. Imports nothing heavy, for the command line reads it before torch is there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from monograph.errors import ExportError
from monograph_export.compression.texts import CalibrationTexts

PRECISIONS = ("fp32", "fp16", "int8")
TABLES = ("fp32", "int8")


@dataclass(frozen=True)
class Limits:
    """The least agreement with the original with which a bundle is written."""

    mean_cosine: float = 0.99
    worst_cosine: float = 0.93
    neighbour_agreement: float = 0.88

    def tightened(self, share: float) -> Limits:
        """Return limits that allow only a share of the loss that these allow."""
        return Limits(**{name: 1 - share * (1 - least) for name, least in asdict(self).items()})


@dataclass(frozen=True)
class Compression:
    """What is asked for.

    ``table`` None is int8 for large vocabularies and with int8 layers, float32 otherwise; ``calibration`` None are
    texts by default.
    """

    precision: str = "fp32"
    table: str | None = None
    calibration: CalibrationTexts | None = None
    reduce_range: bool = False
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Refuse what no model can be compressed to.

        Raises:
            ExportError: an unknown precision or table, options that only int8 layers have without these, or a limit
                that is no cosine.

        """
        if self.precision not in PRECISIONS:
            raise ExportError(f"precision {self.precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        if self.table not in (None, *TABLES):
            raise ExportError(f"table {self.table!r} is not known: choose one of {', '.join(TABLES)}")
        if self.precision != "int8" and (self.calibration is not None or self.reduce_range):
            raise ExportError("calibration texts and a reduced range are for --precision int8, which was not asked for")
        for name, least in asdict(self.limits).items():
            # Written so that NaN is refused.
            if not -1 <= least <= 1:
                raise ExportError(f"the limit of the {name.replace('_', ' ')} must lie between -1 and 1, got {least}")
