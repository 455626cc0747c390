"""Check counts at the boundary."""

from __future__ import annotations

import numpy as np

from monograph.errors import InputError


def checked_count(value: object, name: str, most: int | None = None) -> int:
    """Return a Python or NumPy integer of at least 1, and at most ``most``; ``name`` is what an error calls it.

    Raises:
        InputError: it is not one.

    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} must be a positive integer or None, got {value!r}")
    if most is not None and value > most:
        raise InputError(f"{name} must be at most {most}, got {value!r}")
    return int(value)
