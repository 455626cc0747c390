"""How a model may be compressed. Imports nothing heavy, for the command line reads it before torch is there."""

from __future__ import annotations

from dataclasses import dataclass

from monograph.errors import ExportError
from monograph_export.compression.texts import CalibrationFile

PRECISIONS = ("fp32", "fp16", "int8")
TABLES = ("fp32", "int8")


@dataclass(frozen=True)
class CompressionOptions:
    """The precisions of layers and of the table of token embeddings.

    ``table`` None is int8 for large vocabularies and with int8 layers, float32 otherwise; ``calibration`` None are
    the texts of the task. ``reduce_range`` limits the weights of int8 layers to 7 bits.
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
