"""Quantized vectors equal those of sentence-transformers bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers.util import quantize_embeddings

from monograph.tasks.embedding import PRECISIONS, Precision, quantize


def sample(rows: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)


def ranges_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([vectors.min(axis=0), vectors.max(axis=0)])


def assert_bits_equal(ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dimension", [1, 7, 8, 9, 24, 37, 384])
def test_quantized_vectors_equal_sentence_transformers_bit_for_bit(precision: Precision, dimension: int) -> None:
    vectors, ranges = sample(200, dimension), ranges_of(sample(300, dimension, seed=1))
    ours = quantize(vectors, precision, ranges)
    assert_bits_equal(ours, quantize_embeddings(vectors, precision, ranges=ranges))
    assert_bits_equal(ours[:1], quantize(vectors[:1], precision, ranges))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_values_outside_the_ranges_end_at_their_ends(precision: Precision) -> None:
    ranges = ranges_of(sample(50, 24))
    vectors = np.concatenate([sample(20, 24, seed=1) * 40, ranges, ranges * 2, np.zeros((1, 24), dtype=np.float32)])
    ours = quantize(vectors, precision, ranges)
    assert_bits_equal(ours, quantize_embeddings(vectors, precision, ranges=ranges))
    ends = np.iinfo(precision)
    assert ours.min() == ends.min
    assert ours.max() == ends.max
    assert (ours[20] == ends.min).all()


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_a_dimension_that_is_constant_divides_by_no_zero(precision: Precision) -> None:
    calibration, vectors = sample(50, 12), sample(20, 12, seed=1)
    calibration[:, 3] = vectors[:, 3] = 0.25
    calibration[:, 7] = 0
    vectors[:, 7] *= 300
    with np.errstate(divide="raise", invalid="raise"):
        ours = quantize(vectors, precision, ranges_of(calibration))
    assert_bits_equal(ours, quantize_embeddings(vectors, precision, ranges=ranges_of(calibration)))
    assert (ours[:, 3] == np.iinfo(precision).min).all()


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_a_bit_is_set_where_a_value_is_above_zero(precision: Precision) -> None:
    vectors = np.array([[0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, 1.0, 2.0, -2.0, 3.0]], dtype=np.float32)
    ours = quantize(vectors, precision, None)
    assert_bits_equal(ours, quantize_embeddings(vectors, precision))
    # As int8 the byte is less 128, which flips its highest bit.
    highest = 0x80 if precision == "binary" else 0
    assert ours.view(np.uint8).tolist() == [[0b00101001 ^ highest, 0b10100000 ^ highest]]
