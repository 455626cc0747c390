"""Random choices that depend on nothing but the parts of a name."""

from __future__ import annotations

import random


def random_of(*parts: object) -> random.Random:
    """Return a generator whose values follow from ``parts``, in every process and release of Python."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311
