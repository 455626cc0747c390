"""What may be asked of a compression. Imports nothing heavy, for the command line reads it before torch is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE
from monograph.errors import ExportError
from monograph_export.compression.limits import Limits, ScoreLimits, SparseLimits, VectorLimits
from monograph_export.compression.texts import CalibrationFile

PRECISIONS = ("fp32", "fp16", "int8")
TABLES = ("fp32", "int8")


@dataclass(frozen=True)
class Compression:
    """What is asked for.

    ``table`` None is int8 for large vocabularies and with int8 layers, float32 otherwise; ``calibration`` None are
    texts by default. Of the limits those of the model's task count.
    """

    precision: str = "fp32"
    table: str | None = None
    calibration: CalibrationFile | None = None
    reduce_range: bool = False
    vector_limits: VectorLimits = field(default_factory=VectorLimits)
    sparse_limits: SparseLimits = field(default_factory=SparseLimits)
    score_limits: ScoreLimits = field(default_factory=ScoreLimits)

    @property
    def limits(self) -> Mapping[str, Limits]:
        """The limits of each task."""
        return {EMBEDDING: self.vector_limits, SPARSE: self.sparse_limits, RERANK: self.score_limits}

    def given_limits(self) -> list[str]:
        """Return the options of limits, of whatever task, whose values are not the defaults."""
        return list(dict.fromkeys(option for limits in self.limits.values() for option in limits.given()))

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
        for limits in self.limits.values():
            limits.check()
