"""encode_iter: the vectors of encode, in blocks, pulled as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from monograph import Embedder, InputError
from monograph.batching import split_into_windows

WINDOW = 4


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "monograph.inference.pipeline.split_into_windows", partial(split_into_windows, max_texts=WINDOW)
    )


class Source:
    """Texts of different lengths that count how many of them were taken."""

    def __init__(self, count: int) -> None:
        self.texts = [f"number {number} " * (number * 7 % 30) for number in range(count)]
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.taken += 1
            yield text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 3},
        {"prompt_name": "query"},
        {"prompt": "my own: "},
        {"truncate_dim": 8, "normalize_embeddings": True},
        {"precision": "binary"},
        {"precision": "uint8", "ranges": np.stack([np.full(24, -1), np.full(24, 1)])},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_the_blocks_are_the_rows_of_encode(
    tiny_embedder: Embedder, small_windows: None, options: dict[str, Any]
) -> None:
    source = Source(18)
    blocks = list(tiny_embedder.encode_iter(iter(source), **options))
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 2]
    expected = tiny_embedder.encode(source.texts, **options)
    assert {block.dtype for block in blocks} == {expected.dtype}
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=0, atol=1e-5)


def test_encode_itself_is_the_same_over_many_windows(tiny_embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Source(18).texts
    at_once = tiny_embedder.encode(texts)
    monkeypatch.setattr(
        "monograph.inference.pipeline.split_into_windows", partial(split_into_windows, max_texts=WINDOW)
    )
    np.testing.assert_allclose(tiny_embedder.encode(texts), at_once, rtol=0, atol=1e-5)


def test_texts_are_pulled_only_as_blocks_are_requested(tiny_embedder: Embedder, small_windows: None) -> None:
    source = Source(100)
    blocks = tiny_embedder.encode_iter(source)
    assert source.taken == 0
    next(blocks)
    assert source.taken == WINDOW
    next(blocks)
    assert source.taken == 2 * WINDOW


def test_no_texts_give_no_block(tiny_embedder: Embedder) -> None:
    assert list(tiny_embedder.encode_iter([])) == []


def test_vectors_before_a_text_that_is_refused_are_given(tiny_embedder: Embedder, small_windows: None) -> None:
    texts: list[Any] = ["a", "b", "c", "d", "e", None]
    blocks = tiny_embedder.encode_iter(texts)
    assert next(blocks).shape == (4, 24)
    with pytest.raises(InputError, match="text 5 must be a str, got None"):
        next(blocks)


def test_an_error_of_the_source_comes_through(tiny_embedder: Embedder, small_windows: None) -> None:
    def texts() -> Iterator[str]:
        yield from ("a", "b", "c", "d", "e")
        raise LookupError("the disk is gone")

    blocks = tiny_embedder.encode_iter(texts())
    next(blocks)
    with pytest.raises(LookupError, match="the disk is gone"):
        next(blocks)


@pytest.mark.parametrize(
    "options",
    [{"prompt_name": "title"}, {"batch_size": 0}, {"truncate_dim": 0}, {"precision": "int4"}, {"precision": "int8"}],
    ids=str,
)
def test_options_are_checked_at_the_call(tiny_embedder: Embedder, options: dict[str, Any]) -> None:
    source = Source(3)
    with pytest.raises(InputError):
        tiny_embedder.encode_iter(source, **options)
    assert source.taken == 0


@pytest.mark.parametrize("texts", ["one text", b"bytes", None, 3, {"a": "b"}])
def test_what_is_no_stream_of_texts_is_refused_at_the_call(tiny_embedder: Embedder, texts: Any) -> None:
    with pytest.raises(InputError, match="a stream of texts must be an iterable of str"):
        tiny_embedder.encode_iter(texts)
