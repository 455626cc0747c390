"""What a system under measurement has to be."""

from __future__ import annotations

import abc
import importlib.metadata
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[str, str]
InputT = TypeVar("InputT", str, Pair)


class Model(abc.ABC, Generic[InputT]):
    """A loaded model that embeds texts, or scores pairs of them, as its users would have it do that."""

    @property
    @abc.abstractmethod
    def first(self) -> InputT:
        """What the first output is computed of."""

    @abc.abstractmethod
    def encode(self, texts: list[InputT], batch_size: int | None) -> Any:
        """Return the results of texts or pairs in their order; the system's own batches where None is given."""

    def vectors(self, found: Any) -> NDArray[np.float32]:
        """Return what ``encode`` gave as an array: vectors [n, d], or logits of pairs [n] or [n, labels]."""
        return np.asarray(found, dtype=np.float32)

    def padding_share(self, texts: list[InputT]) -> float | None:  # noqa: ARG002 - for those that know
        """Return the share of padding among the tokens that are computed for texts, None where it is not known."""
        return None

    @abc.abstractmethod
    def described(self) -> dict[str, str]:
        """Return what a reader of the result should know: versions, device, type, threads as the system tells them."""


class TextModel(Model[str]):
    """A model of texts."""

    @property
    def first(self) -> str:
        """A text."""
        return "a first text"


class PairModel(Model[Pair]):
    """A model of pairs; its scores are logits, so that all are the same thing, whatever activation each would use."""

    @property
    def first(self) -> Pair:
        """A query and a passage."""
        return "a first question", "a first text"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    return {package: importlib.metadata.version(package) for package in packages}
