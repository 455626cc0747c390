"""The gate: how near a compressed model is to the original on other texts than calibrated it, and must be."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, spearmanr


@dataclass(frozen=True)
class Agreement:
    """Two models' vectors of the same texts, compared.

    Cosines are those of a text's two vectors. ``spearman`` is the rank correlation of the similarities of all pairs of
    texts, 0 where there is none (all are equal, or there are fewer than three texts); ``neighbour_agreement`` the share
    of texts whose nearest neighbour among the others is the same.
    """

    texts: int
    mean_cosine: float
    percentile_1_cosine: float
    worst_cosine: float
    spearman: float
    neighbour_agreement: float

    def to_json(self) -> dict[str, float]:
        """Return the figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """The least agreement with which a bundle is written."""

    mean_cosine: float = 0.99
    worst_cosine: float = 0.93
    neighbour_agreement: float = 0.88

    def tightened(self, share: float) -> Limits:
        """Return limits that allow only a share of the loss that these allow."""
        return Limits(**{name: 1 - share * (1 - least) for name, least in asdict(self).items()})

    def broken_by(self, found: Agreement) -> list[str]:
        """Return what is below its limit, in words; nothing where all holds. NaN does not hold."""
        return list(self._broken(found))

    def _broken(self, found: Agreement) -> Iterator[str]:
        for name, least in asdict(self).items():
            value = getattr(found, name)
            if not value >= least:
                yield f"{name.replace('_', ' ')} {value:.4f} is below {least}"


def agreement(reference: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Compare the vectors of the same texts, float32 [n, d] each."""
    first, second = _unit(reference), _unit(found)
    cosines = np.einsum("nd,nd->n", first, second)
    similarities, others = first @ first.T, second @ second.T
    pairs = np.triu_indices(len(first), k=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        spearman = spearmanr(similarities[pairs], others[pairs]).statistic if len(first) > 2 else 0.0
    np.fill_diagonal(similarities, -np.inf)
    np.fill_diagonal(others, -np.inf)
    return Agreement(
        texts=len(first),
        mean_cosine=float(cosines.mean()),
        percentile_1_cosine=float(np.percentile(cosines, 1)),
        worst_cosine=float(cosines.min()),
        spearman=float(np.nan_to_num(spearman)),
        neighbour_agreement=float((similarities.argmax(axis=1) == others.argmax(axis=1)).mean()),
    )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30))
