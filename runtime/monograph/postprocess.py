"""From the graph's vectors to what the caller asked for: cut, normalise, quantise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.bundle.manifest import Embedding
from monograph.counts import checked_count
from monograph.errors import InputError
from monograph.similarity import normalized

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8", "uint8", "binary", "ubinary")
SCALAR = ("int8", "uint8")
Ranges = NDArray[np.float32]


@dataclass(frozen=True)
class Postprocess:
    """The steps behind the graph, in the order of ``SentenceTransformer.encode``: cut, normalise, quantise.

    ``ranges`` (float32 [2, dimension]) holds the least and greatest value of each dimension and is present
    exactly where ``precision`` needs it.
    """

    dimension: int
    normalize: bool
    precision: Precision
    ranges: Ranges | None

    @property
    def width(self) -> int:
        """Columns of the result: bytes for the binary precisions, dimensions otherwise."""
        return -(-self.dimension // 8) if self.precision in ("binary", "ubinary") else self.dimension

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result's values."""
        return np.dtype({"binary": "int8", "ubinary": "uint8"}.get(self.precision, self.precision))

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Turn the graph's vectors (float32 [n, d]) into the result (``dtype`` [n, ``width``])."""
        vectors = vectors[:, : self.dimension]
        if self.normalize:
            vectors = normalized(vectors)
        return quantize(vectors, self.precision, self.ranges)


def plan_postprocess(
    embedding: Embedding,
    *,
    truncate_dim: int | None,
    normalize: bool,
    precision: str,
    ranges: ArrayLike | None,
) -> Postprocess:
    """Check the options of a call against the model and return the steps.

    Raises:
        InputError: an option is unknown or does not fit the model.

    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    cut = embedding.truncate_dim if truncate_dim is None else truncate_dim
    dimension = embedding.dimension
    if cut is not None:
        dimension = min(checked_count(cut, "truncate_dim"), dimension)
    if precision not in SCALAR:
        return Postprocess(dimension, normalize, precision, None)
    chosen = ranges
    # The bundle's ranges were taken from whole vectors as the graph gives them.
    if chosen is None and dimension == embedding.dimension and (embedding.normalized or not normalize):
        chosen = embedding.ranges
    if chosen is None:
        raise InputError(
            f"precision {precision!r} needs ranges=, the least and greatest value of each dimension as an array "
            f"[2, {dimension}]: numpy.stack([sample.min(0), sample.max(0)]) of vectors of your own texts"
        )
    return Postprocess(dimension, normalize, precision, _checked_ranges(chosen, dimension))


def quantize(vectors: NDArray[np.float32], precision: Precision, ranges: Ranges | None) -> NDArray[Any]:
    """Return the vectors at a lower precision, bit for bit as ``quantize_embeddings`` of Sentence Transformers.

    ``vectors`` is float32 [n, d]; the result is int8 or uint8 [n, d] for "int8" and "uint8", and one bit a
    dimension, [n, ceil(d / 8)], for "binary" (int8) and "ubinary" (uint8). ``ranges`` is float32 [2, d].
    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        # int8 is the unsigned byte less 128, that is, with its highest bit turned over.
        return (bits ^ 0x80).view(np.int8) if precision == "binary" else bits
    if ranges is None:
        raise InputError(f"precision {precision!r} needs ranges")
    steps = (ranges[1] - ranges[0]) / 255
    steps = np.where(steps == 0, 1, steps)
    levels = np.clip(np.floor((vectors - ranges[0]) / steps), 0, 255)
    return np.asarray(levels, dtype=np.uint8) if precision == "uint8" else np.asarray(levels - 128, dtype=np.int8)


def _checked_ranges(ranges: ArrayLike, dimension: int) -> Ranges:
    try:
        array = np.asarray(ranges, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"ranges must be an array of numbers [2, {dimension}]: {error}") from error
    if array.shape != (2, dimension):
        raise InputError(f"ranges must have the shape (2, {dimension}), got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("ranges must be finite numbers")
    return array
