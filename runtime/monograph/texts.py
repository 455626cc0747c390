"""Check texts and pairs of texts once, at the boundary; everything behind it works on lists of str, or of tuples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inputs import Pair

# What may be given as one text or many.
Texts = str | Sequence[str] | NDArray[Any]
_SIDES = ("first", "second")
# Iterables that have no texts one after another.
_NO_SEQUENCES = (str, bytes, bytearray, dict, set, frozenset)


def checked_texts(texts: object) -> list[str]:
    """Return a list, tuple, NumPy array or pandas column of texts as a list of str.

    Raises:
        InputError: naming position and type, where something is not a text that can be encoded as UTF-8.

    """
    if isinstance(texts, (dict, set, frozenset, bytes, bytearray)) or not isinstance(texts, Iterable):
        raise InputError(f"texts must be a str or a list of str, got {_described(texts)}")
    if getattr(texts, "ndim", 1) != 1:
        raise InputError(f"texts must be one-dimensional, got {getattr(texts, 'ndim', '?')} dimensions")
    return [checked_text(text, position) for position, text in enumerate(_plain(texts))]


def checked_stream(texts: Iterable[object]) -> Iterator[str]:
    """Yield the texts of any iterable, each checked as ``checked_texts`` does.

    Raises:
        InputError: at the first text that is not usable.

    """
    if isinstance(texts, (str, bytes, bytearray, dict)) or not isinstance(texts, Iterable):
        raise InputError(f"a stream of texts must be an iterable of str, got {_described(texts)}")
    return (checked_text(text, position) for position, text in enumerate(texts))


def checked_text(text: object, position: int) -> str:
    """Return one text as a plain str.

    Raises:
        InputError: it is not a str, or holds a lone surrogate, which no UTF-8 text can.

    """
    return checked_named(text, f"text {position}")


def checked_named(text: object, name: str) -> str:
    """Return one text as a plain str; ``name`` is what an error calls it.

    Raises:
        InputError: it is not a str, or holds a lone surrogate.

    """
    if not isinstance(text, str):
        raise InputError(f"{name} must be a str, got {_described(text)}")
    return checked_utf8(text, name)


def checked_pairs(inputs: object) -> tuple[list[Pair], bool]:
    """Return one pair of texts, or any iterable of pairs, as a list of tuples, and whether it was one pair.

    A pair is a list or tuple of two str; what holds no list or tuple is itself taken for a pair, as
    ``CrossEncoder.predict`` of Sentence Transformers does.

    Raises:
        InputError: naming position and side, where something is no pair, or not a text that can be encoded as UTF-8.

    """
    if isinstance(inputs, _NO_SEQUENCES) or not isinstance(inputs, Iterable):
        raise InputError(f"inputs must be a pair of str, or a list of pairs, got {_described(inputs)}")
    given = list(_plain(inputs))
    single = bool(given) and not isinstance(given[0], (list, tuple))
    if single and len(given) != len(_SIDES):
        raise InputError(
            f"inputs must be a pair of str, or a list of pairs, got {len(given)} of {_described(given[0])}: "
            "put each query with its document, [(query, document), ...]"
        )
    return [_checked_pair(pair, position) for position, pair in enumerate([given] if single else given)], single


def _checked_pair(pair: object, position: int) -> Pair:
    if not isinstance(pair, (list, tuple)):
        raise InputError(f"pair {position} must be two texts, got {_described(pair)}")
    if len(pair) != len(_SIDES):
        raise InputError(f"pair {position} must be two texts, got {len(pair)}")
    first, second = (
        checked_named(text, f"the {side} text of pair {position}") for text, side in zip(pair, _SIDES, strict=True)
    )
    return first, second


def checked_utf8(text: str, name: str) -> str:
    """Return ``text`` as a plain str; ``name`` is what an error calls it.

    Raises:
        InputError: it holds a lone surrogate.

    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}): "
            "put U+FFFD in its place where the text is made"
        ) from error
    return str(text)


def _plain(texts: Iterable[Any]) -> Iterable[object]:
    # tolist() turns NumPy and pandas values into Python ones many times faster than iteration does.
    to_list = getattr(texts, "tolist", None)
    return to_list() if callable(to_list) else texts


def _described(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{kind} ({value!r})" if isinstance(value, (bool, int, float)) else kind
