"""The result of a stage: a JSON file, written anew with every value, so that a killed stage leaves what it had."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Record:
    """The values of a stage, and the seconds that it has left.

    A stage looks at ``seconds_left`` between its rounds: what it measures must be whole when its time is up.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self.values: dict[str, Any] = {"status": "running"}
        self._file = file
        self._begin = time.monotonic()
        self._end = self._begin + seconds
        self._write()

    @property
    def seconds_left(self) -> float:
        """Seconds until the stage should end."""
        return self._end - time.monotonic()

    def put(self, **values: Any) -> None:
        """Add values, or replace those of the same names, and write the file."""
        self.values |= values
        self._write()

    def end(self, status: str, **values: Any) -> None:
        """Write the file for the last time."""
        self.put(status=status, seconds=round(time.monotonic() - self._begin, 1), **values)

    def _write(self) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self.values, indent=1, default=str) + "\n", "utf-8")
        os.replace(partial, self._file)  # noqa: PTH105 - atomic


def read_record(file: Path) -> dict[str, Any]:
    """Return the values of a stage, {} where there is no file."""
    values: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return values
