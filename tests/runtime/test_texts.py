"""Which texts are accepted, and the errors for those that are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from monograph import InputError
from monograph.inputs import check_stream, check_text, check_texts

TEXTS = ["one", "", "drei \N{GRINNING FACE}", "a\0b"]


@pytest.mark.parametrize(
    "texts",
    [
        list(TEXTS),
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        [np.str_(text) for text in TEXTS],
        np.array([TEXTS, TEXTS]).T[:, 0],
        dict.fromkeys(TEXTS).keys(),
    ],
    ids=["list", "tuple", "U array", "object array", "list of numpy.str_", "strided array", "keys"],
)
def test_a_sequence_of_texts_becomes_a_list_of_plain_str(texts: Any) -> None:
    for checked in (check_texts(texts), list(check_stream(texts))):
        assert checked == TEXTS
        assert all(type(text) is str for text in checked)


@pytest.mark.parametrize("texts", [[], (), np.array([], dtype=str), np.array([], dtype=object), iter([])])
def test_no_texts_are_an_empty_list(texts: Any) -> None:
    assert check_texts(texts) == []


@pytest.mark.parametrize("text", ["plain", "", np.str_("numpy's")])
def test_one_text_is_a_plain_str(text: str) -> None:
    checked = check_text(text, 0)
    assert checked == text
    assert type(checked) is str


@pytest.mark.parametrize(
    ("texts", "described"),
    [
        (None, "None"),
        (3, "int (3)"),
        (2.5, "float (2.5)"),
        (True, "bool (True)"),
        (b"bytes", "bytes"),
        (bytearray(b"bytes"), "bytearray"),
        ({"a": 1}, "dict: give the text in it, and not the dict"),
        ({"a"}, "set"),
        (frozenset("a"), "frozenset"),
        (object(), "object"),
    ],
)
def test_what_is_no_sequence_of_texts_is_refused(texts: object, described: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"got {described}") + "$"):
        check_texts(texts)


@pytest.mark.parametrize(
    "texts", [None, 3, "one text", b"bytes", bytearray(b"bytes"), {"a": 1}], ids=lambda texts: type(texts).__name__
)
def test_what_is_no_stream_of_texts_is_refused_at_the_call(texts: Any) -> None:
    with pytest.raises(InputError, match="a stream of texts must be an iterable of str"):
        check_stream(texts)


@pytest.mark.parametrize(
    ("bad", "described"),
    [
        (None, "None"),
        (7, "int (7)"),
        (float("nan"), "float (nan)"),
        (False, "bool (False)"),
        (b"bytes", "bytes"),
        (["nested"], "list: give one str for each; pairs are for predict of a CrossEncoder"),
        (("a", "b"), "tuple: give one str for each; pairs are for predict of a CrossEncoder"),
        ({"text": "a"}, "dict: give the text in it, and not the dict"),
    ],
    ids=lambda value: repr(value),
)
def test_an_element_that_is_no_text_is_named_by_position_and_type(bad: object, described: str) -> None:
    message = re.escape(f"text 2 must be a str, got {described}") + "$"
    texts = ["a", "b", bad, None]
    with pytest.raises(InputError, match=message):
        check_texts(texts)
    with pytest.raises(InputError, match=message):
        list(check_stream(texts))
    array = np.empty(4, dtype=object)
    array[:] = texts
    with pytest.raises(InputError, match=message):
        check_texts(array)
    with pytest.raises(InputError, match=message):
        check_text(bad, 2)


@pytest.mark.parametrize("array", [np.array([1, 2]), np.array([0.5]), np.array([b"bytes"]), np.array([True])])
def test_an_array_of_something_else_is_refused(array: Any) -> None:
    with pytest.raises(InputError, match="text 0 must be a str, got"):
        check_texts(array)


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (4, 1), (2, 2, 1), ()])
def test_an_array_of_another_number_of_dimensions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"must be one-dimensional, got {len(shape)} dimensions"):
        check_texts(np.full(shape, "text"))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("\ud800", "U+D800 at character 0"),
        ("fine until \udfff here", "U+DFFF at character 11"),
        ("\N{GRINNING FACE}\ude00", "U+DE00 at character 1"),
    ],
)
def test_a_lone_surrogate_is_named_by_its_place(text: str, where: str) -> None:
    message = re.escape(f"text 1 holds a lone surrogate ({where}): put U+FFFD in its place")
    with pytest.raises(InputError, match=message):
        check_texts(["fine", text])
    with pytest.raises(InputError, match=message):
        list(check_stream(["fine", text]))


def test_a_stream_takes_a_generator_and_pulls_one_text_at_a_time() -> None:
    pulled = []

    def texts() -> Iterator[str]:
        for number in range(5):
            pulled.append(number)
            yield f"text {number}"

    stream = check_stream(texts())
    assert pulled == []
    assert next(stream) == "text 0"
    assert pulled == [0]
    assert next(stream) == "text 1"
    assert pulled == [0, 1]
    assert list(stream) == ["text 2", "text 3", "text 4"]


def test_a_stream_gives_the_texts_before_one_that_is_refused() -> None:
    stream = check_stream(iter(["a", "b", 3]))
    assert [next(stream), next(stream)] == ["a", "b"]
    with pytest.raises(InputError, match="text 2"):
        next(stream)
