"""What a system under measurement has to be."""

from __future__ import annotations

import abc
import importlib.metadata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Model(abc.ABC):
    """A loaded model that embeds texts as its users would have it embed them."""

    @abc.abstractmethod
    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        """Return the vectors of texts, float32 [n, d], in their order; the system's own batches where None is given."""

    def padding_share(self, texts: list[str]) -> float | None:  # noqa: ARG002 - for those that know
        """Return the share of padding among the tokens that are computed for texts, None where it is not known."""
        return None

    @abc.abstractmethod
    def described(self) -> dict[str, str]:
        """Return what a reader of the result should know: versions, device, type, threads as the system tells them."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    return {package: importlib.metadata.version(package) for package in packages}
