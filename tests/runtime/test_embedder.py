"""What encode returns: shapes, order, prompts, precisions, batches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder, InputError
from monograph.tasks.embedding import PRECISIONS, Precision, quantize

TEXTS = [
    "A boat.",
    "",
    "The ferry leaves at noon, so bring the blue suitcase. " * 12,
    "Two screws and a piece of copper wire",
    "später, weil der Strom ausfiel",
    "日本語のテキスト",
    "word " * 90,
    "x",
]


def shuffled_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of very different lengths in no order."""
    random = np.random.default_rng(seed)
    words = ["the", "old", "radio", "plays", "a", "song", "about", "ferries", "and", "copper", "wire"]
    return [" ".join(random.choice(words, length)) for length in random.integers(0, 80, count)]


def alone(model: Embedder, texts: list[str]) -> NDArray[np.float32]:
    return np.stack([model.encode(text) for text in texts])


def assert_near(ours: NDArray[Any], expected: NDArray[Any]) -> None:
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_one_text_gives_one_vector(tiny_embedder: Embedder) -> None:
    vector = tiny_embedder.encode("A boat.")
    assert vector.shape == (24,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert_near(tiny_embedder.encode(np.str_("A boat.")), vector)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("container", [list, tuple, np.array, lambda texts: np.array(texts, dtype=object)])
def test_many_texts_give_one_row_each(
    tiny_embedder: Embedder, count: int, container: Callable[[list[str]], Any]
) -> None:
    assert_near(tiny_embedder.encode(container(TEXTS[:count])), alone(tiny_embedder, TEXTS[:count]))


@pytest.mark.parametrize("texts", [[], (), np.array([], dtype=str)])
def test_no_texts_give_no_rows(tiny_embedder: Embedder, texts: Any) -> None:
    vectors = tiny_embedder.encode(texts)
    assert vectors.shape == (0, 24)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_in_the_order_of_the_texts(tiny_embedder: Embedder, seed: int) -> None:
    texts = shuffled_texts(40, seed)
    assert_near(tiny_embedder.encode(texts), alone(tiny_embedder, texts))


def test_equal_texts_get_equal_vectors_and_others_other_ones(tiny_embedder: Embedder) -> None:
    vectors = tiny_embedder.encode(["A boat.", "A radio.", "A boat.", "A boat."])
    assert_near(vectors[[2, 3]], vectors[[0, 0]])
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_a_longer_text_than_the_model_takes_is_cut(tiny_embedder: Embedder) -> None:
    assert tiny_embedder.max_length == 96
    assert_near(tiny_embedder.encode("wire " * 500), tiny_embedder.encode("wire " * 5000))


@pytest.mark.parametrize("batch_size", [1, 7, np.int64(3), 1000])
def test_every_batch_size_gives_the_same(tiny_embedder: Embedder, batch_size: int) -> None:
    texts = shuffled_texts(50)
    assert_near(tiny_embedder.encode(texts, batch_size=batch_size), tiny_embedder.encode(texts, batch_size=None))


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0, "8"])
def test_a_batch_size_that_is_no_positive_integer_is_refused(tiny_embedder: Embedder, batch_size: Any) -> None:
    with pytest.raises(InputError, match="batch_size must be a positive integer or None"):
        tiny_embedder.encode(TEXTS, batch_size=batch_size)


@pytest.mark.parametrize(
    ("method", "options", "prompt"),
    [
        ("encode", {}, ""),
        ("encode", {"prompt_name": "query"}, "search: "),
        ("encode", {"prompt_name": "passage"}, "text: "),
        ("encode", {"prompt_name": "document"}, ""),
        ("encode", {"prompt": "my own: "}, "my own: "),
        ("encode", {"prompt": "my own: ", "prompt_name": "query"}, "my own: "),
        ("encode_query", {}, "search: "),
        ("encode_query", {"prompt_name": "passage"}, "text: "),
        ("encode_query", {"prompt": ""}, ""),
        # The checkpoint has a "document" prompt, an empty one, and it comes before "passage".
        ("encode_document", {}, ""),
        ("encode_document", {"prompt_name": "passage"}, "text: "),
        ("encode_document", {"prompt": "my own: "}, "my own: "),
    ],
)
def test_the_prompt_is_put_before_each_text(
    tiny_embedder: Embedder, method: str, options: dict[str, str], prompt: str
) -> None:
    expected = tiny_embedder.encode([prompt + text for text in TEXTS], prompt="")
    assert_near(getattr(tiny_embedder, method)(TEXTS, **options), expected)
    assert_near(getattr(tiny_embedder, method)(TEXTS[0], **options), expected[0])


def test_the_prompts_of_the_model_give_different_vectors(tiny_embedder: Embedder) -> None:
    plain, query, passage = (tiny_embedder.encode(TEXTS[3], prompt_name=name) for name in (None, "query", "passage"))
    assert np.abs(plain - query).max() > 0.001
    assert np.abs(plain - passage).max() > 0.001
    assert np.abs(query - passage).max() > 0.001


def test_an_unknown_prompt_name_is_refused(tiny_embedder: Embedder) -> None:
    for method in (tiny_embedder.encode, tiny_embedder.encode_query, tiny_embedder.encode_document):
        with pytest.raises(InputError, match="prompt_name 'title' is not a prompt of this model"):
            method(TEXTS, prompt_name="title")


def test_vectors_are_cut_first_and_normalised_then(tiny_embedder: Embedder) -> None:
    whole = tiny_embedder.encode(TEXTS)
    cut = tiny_embedder.encode(TEXTS, truncate_dim=8)
    assert_near(cut, whole[:, :8])
    assert (np.linalg.norm(cut, axis=1) < 0.99).all()
    unit = tiny_embedder.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    assert_near(unit, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert_near(tiny_embedder.encode(TEXTS, truncate_dim=1000), whole)


@pytest.mark.parametrize(
    ("precision", "truncate_dim", "width", "dtype"),
    [
        ("float32", None, 24, np.float32),
        ("float32", 10, 10, np.float32),
        ("int8", None, 24, np.int8),
        ("int8", 10, 10, np.int8),
        ("uint8", None, 24, np.uint8),
        ("binary", None, 3, np.int8),
        ("binary", 10, 2, np.int8),
        ("ubinary", None, 3, np.uint8),
        ("ubinary", 7, 1, np.uint8),
    ],
)
def test_each_precision_has_its_type_and_shape_and_the_quantized_values(
    tiny_embedder: Embedder, precision: Precision, truncate_dim: int | None, width: int, dtype: type
) -> None:
    whole = tiny_embedder.encode(TEXTS, truncate_dim=truncate_dim)
    ranges = np.stack([whole.min(axis=0), whole.max(axis=0)])
    options: dict[str, Any] = {"precision": precision, "ranges": ranges, "truncate_dim": truncate_dim}
    vectors = tiny_embedder.encode(TEXTS, **options)
    assert vectors.dtype == dtype
    assert vectors.shape == (len(TEXTS), width)
    np.testing.assert_array_equal(vectors, quantize(whole, precision, ranges))
    assert tiny_embedder.encode(TEXTS[0], **options).shape == (width,)
    none = tiny_embedder.encode([], **options)
    assert none.shape == (0, width)
    assert none.dtype == dtype


def test_a_precision_without_its_ranges_is_refused(tiny_embedder: Embedder) -> None:
    for precision in PRECISIONS:
        if precision.endswith("int8"):
            with pytest.raises(InputError, match="needs ranges="):
                tiny_embedder.encode(TEXTS, precision=precision)


def test_an_option_is_checked_even_where_there_are_no_texts(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="prompt_name"):
        tiny_embedder.encode([], prompt_name="title")
    with pytest.raises(InputError, match="truncate_dim"):
        tiny_embedder.encode([], truncate_dim=0)


@pytest.mark.parametrize("texts", [None, 3, b"bytes", {"a": 1}, ["a", None], [["a"]], np.array([["a"]]), "\ud800"])
def test_what_is_no_text_is_refused(tiny_embedder: Embedder, texts: Any) -> None:
    with pytest.raises(InputError, match=r"^texts? "):
        tiny_embedder.encode(texts)


def test_threads_that_encode_at_once_each_get_their_own_vectors(tiny_embedder: Embedder) -> None:
    parts = [shuffled_texts(30, seed) for seed in range(8)]
    expected = [tiny_embedder.encode(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for vectors, right in zip(pool.map(tiny_embedder.encode, parts), expected, strict=True):
                assert_near(vectors, right)
