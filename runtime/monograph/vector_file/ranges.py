"""The ranges of int8 and uint8 vectors, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError, first_line


def read_ranges(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file: the smallest and largest value of each dimension, [2, d].

    Raises:
        InputError: it is no such file.
        OSError: it cannot be opened.

    """
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path} is not an array that numpy.save wrote ({first_line(error)}): save "
            "numpy.stack([sample.min(0), sample.max(0)]) of vectors of your own texts"
        ) from error
    return array
