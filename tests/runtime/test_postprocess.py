"""What follows the graph: truncate, normalize, quantize."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import InputError
from monograph.similarity import normalize as to_unit_length
from monograph.tasks.embedding import (
    EMBEDDING,
    PRECISIONS,
    EmbeddingSection,
    Precision,
    VectorPostProcess,
    quantize,
)

RANGES = ((-1.0, -2.0, -3.0, -4.0, -5.0, -6.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))


def sample(rows: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)


def ranges_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([vectors.min(axis=0), vectors.max(axis=0)])


def plan(embedding: EmbeddingSection | None = None, **options: Any) -> VectorPostProcess:
    return EMBEDDING.post_process(embedding or EmbeddingSection(6, True, "cosine", ()), **options)


def assert_bits_equal(ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_vectors_have_the_type_and_width_of_some(precision: Precision) -> None:
    steps = plan(precision=precision, ranges=RANGES)
    for rows in (0, 1, 5):
        result = steps(sample(rows, 6))
        assert result.shape == (rows, steps.width)
        assert result.dtype == steps.dtype


@pytest.mark.parametrize(
    ("precision", "dimension", "width", "dtype"),
    [
        ("float32", 9, 9, "float32"),
        ("int8", 9, 9, "int8"),
        ("uint8", 9, 9, "uint8"),
        ("binary", 8, 1, "int8"),
        ("binary", 9, 2, "int8"),
        ("ubinary", 16, 2, "uint8"),
        ("ubinary", 17, 3, "uint8"),
    ],
)
def test_the_plan_tells_width_and_type(precision: str, dimension: int, width: int, dtype: str) -> None:
    steps = plan(EmbeddingSection(dimension, True, "cosine", ()), precision=precision, ranges=np.zeros((2, dimension)))
    assert (steps.width, steps.dtype) == (width, np.dtype(dtype))


def test_vectors_are_cut_then_normalised_then_quantised() -> None:
    vectors = sample(30, 6)
    unit = to_unit_length(vectors[:, :4])
    np.testing.assert_array_equal(plan(truncate_dim=4)(vectors), vectors[:, :4])
    np.testing.assert_array_equal(plan(truncate_dim=4, normalize_embeddings=True)(vectors), unit)
    steps = plan(truncate_dim=4, normalize_embeddings=True, precision="uint8", ranges=ranges_of(unit))
    assert_bits_equal(steps(vectors), quantize(unit, "uint8", ranges_of(unit)))


@pytest.mark.parametrize(
    ("own", "requested", "dimension"),
    [(None, None, 6), (4, None, 4), (4, 5, 5), (4, 2, 2), (None, 6, 6), (None, 7, 6), (9, None, 6), (4, 10**20, 6)],
)
def test_the_cut_of_the_call_wins_over_the_model_s_and_never_adds(
    own: int | None, requested: int | None, dimension: int
) -> None:
    assert (
        plan(EmbeddingSection(6, True, "cosine", (), truncate_dim=own), truncate_dim=requested).dimension == dimension
    )


def test_a_cut_may_be_a_numpy_integer() -> None:
    assert plan(truncate_dim=np.int32(3)).dimension == 3


@pytest.mark.parametrize("cut", [0, -1, True, False, "x", "4", 4.0, np.float32(4), [4]])
def test_a_cut_that_is_no_positive_integer_is_refused(cut: object) -> None:
    with pytest.raises(InputError, match="truncate_dim must be a positive integer"):
        plan(truncate_dim=cut)


@pytest.mark.parametrize("precision", ["int4", "", "FLOAT32", 8])
def test_an_unknown_precision_is_refused_with_the_known_ones(precision: object) -> None:
    with pytest.raises(InputError, match="is not one of float32, int8, uint8, binary, ubinary"):
        plan(precision=precision)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_a_precision_that_needs_ranges_says_how_to_make_them(precision: str) -> None:
    with pytest.raises(InputError, match=r"needs ranges=.*\[2, 4\].*numpy\.stack"):
        plan(precision=precision, truncate_dim=4)
    with pytest.raises(InputError, match="needs ranges"):
        quantize(sample(2, 4), precision, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "binary", "ubinary"])
def test_ranges_are_left_aside_where_nothing_needs_them(precision: str) -> None:
    assert plan(precision=precision, ranges=np.zeros((9, 9))).ranges is None


@pytest.mark.parametrize("shape", [(2, 6), (2, 3), (4, 2), (8,), (1, 2, 4), (1, 4), (0,)])
def test_ranges_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="ranges must have"):
        plan(precision="int8", truncate_dim=4, ranges=np.zeros(shape))


@pytest.mark.parametrize("ranges", [RANGES, np.array(RANGES), np.array(RANGES, dtype=np.float16)])
def test_ranges_of_any_number_type_become_float32(ranges: Any) -> None:
    planned = plan(precision="int8", ranges=ranges).ranges
    assert planned is not None
    assert planned.dtype == np.float32
    np.testing.assert_array_equal(planned, np.array(RANGES))


def test_the_model_s_ranges_serve_whole_vectors_as_the_graph_gives_them() -> None:
    unit, raw = (
        EmbeddingSection(6, True, "cosine", (), None, RANGES),
        EmbeddingSection(6, False, "dot", (), None, RANGES),
    )
    for embedding, normalize in ((unit, False), (unit, True), (raw, False)):
        planned = plan(embedding, precision="int8", normalize_embeddings=normalize).ranges
        np.testing.assert_array_equal(planned, np.array(RANGES, dtype=np.float32))
    np.testing.assert_array_equal(plan(unit, precision="int8", ranges=np.ones((2, 6))).ranges, np.ones((2, 6)))


@pytest.mark.parametrize(
    ("embedding", "options"),
    [
        (EmbeddingSection(6, True, "cosine", (), None, RANGES), {"truncate_dim": 4}),
        (EmbeddingSection(6, True, "cosine", (), 4, RANGES), {}),
        (EmbeddingSection(6, False, "dot", (), None, RANGES), {"normalize_embeddings": True}),
    ],
    ids=["cut by the call", "cut by the model", "normalised by the call"],
)
def test_the_model_s_ranges_are_not_used_for_vectors_of_another_kind(
    embedding: EmbeddingSection, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="needs ranges"):
        plan(embedding, precision="int8", **options)
