"""Compute a text, or a pair, that is there many times once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import InputT


def distinct(texts: Sequence[InputT]) -> tuple[Sequence[InputT], NDArray[np.intp] | None]:
    """Return the distinct texts in the order they first occur, and where each of ``texts`` is among them (intp [n]).

    The positions are None where no text occurs twice, and what is returned is ``texts`` itself.
    """
    positions: dict[InputT, int] = {}
    for text in texts:
        positions.setdefault(text, len(positions))
    if len(positions) == len(texts):
        return texts, None
    return list(positions), np.fromiter((positions[text] for text in texts), np.intp, len(texts))
