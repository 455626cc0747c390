"""Check what a caller gives once, at the boundary: texts, pairs of texts, counts and prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError

logger = logging.getLogger(__name__)

# The names of prompts that queries and documents take, the first that a model has.
QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
Pair = tuple[str, str]
# What a model computes one output of: a text, or a pair of texts.
Input = str | Pair
# All of one kind in a call.
InputT = TypeVar("InputT", bound=Input)
# One text or many.
Texts = str | Sequence[str] | NDArray[Any]
_SIDES = ("first", "second")
# Iterables that have no texts one after another.
_NOT_SEQUENCES = (str, bytes, bytearray, dict, set, frozenset)


class UnusableTextError(InputError):
    """A text, or pair, that the model has no output for.

    ``position`` is its place among the texts of the call that raises it, ``noun`` what it is and ``problem`` what is
    wrong with it.
    """

    def __init__(self, noun: str, position: int, problem: str) -> None:
        super().__init__(noun, position, problem)
        self.noun, self.position, self.problem = noun, position, problem

    def __str__(self) -> str:
        return f"{self.noun} {self.position} {self.problem}"

    def at(self, position: int) -> UnusableTextError:
        """Return the error for the same text at another position."""
        return UnusableTextError(self.noun, position, self.problem)


def check_texts(texts: object, name: str = "text") -> list[str]:
    """Return a list, tuple, NumPy array or pandas column of texts as a list of str.

    ``name`` is what an error calls a text.

    Raises:
        InputError: naming position and type, where something is not a text that can be encoded as UTF-8.

    """
    if isinstance(texts, (dict, set, frozenset, bytes, bytearray)) or not isinstance(texts, Iterable):
        raise InputError(f"{name}s must be a str or a list of str, got {_describe(texts)}{_advise(texts)}")
    if getattr(texts, "ndim", 1) != 1:
        raise InputError(f"{name}s must be one-dimensional, got {getattr(texts, 'ndim', '?')} dimensions")
    return [check_text(text, position, name) for position, text in enumerate(_to_python(texts))]


def check_one_or_many(texts: object) -> list[str]:
    """Return one text, or what ``check_texts`` takes, as a list of str.

    Raises:
        InputError: as ``check_texts``.

    """
    return [check_text(texts, 0)] if isinstance(texts, str) else check_texts(texts)


def check_stream(texts: Iterable[object]) -> Iterator[str]:
    """Yield the texts of any iterable, each checked as ``check_texts`` does.

    Raises:
        InputError: at the first text that is not usable.

    """
    if isinstance(texts, (str, bytes, bytearray, dict)) or not _is_iterable(texts):
        raise InputError(f"a stream of texts must be an iterable of str, got {_describe(texts)}")
    return (check_text(text, position) for position, text in enumerate(texts))


def check_text(text: object, position: int, name: str = "text") -> str:
    """Return one text as a plain str.

    Raises:
        InputError: it is not a str, or holds a lone surrogate, which no UTF-8 text can.

    """
    if not isinstance(text, str):
        raise InputError(f"{name} {position} must be a str, got {_describe(text)}{_advise(text)}")
    return check_utf8(text, f"{name} {position}")


def check_named(text: object, name: str) -> str:
    """Return one text as a plain str; ``name`` is what an error calls it.

    Raises:
        InputError: it is not a str, or holds a lone surrogate.

    """
    if not isinstance(text, str):
        raise InputError(f"{name} must be a str, got {_describe(text)}")
    return check_utf8(text, name)


def check_pairs(inputs: object) -> tuple[list[Pair], bool]:
    """Return one pair of texts, or any iterable of pairs, as a list of tuples, and whether it was one pair.

    A pair is a list or tuple of two str; what holds no list or tuple is itself taken for a pair, as
    ``CrossEncoder.predict`` of Sentence Transformers does.

    Raises:
        InputError: naming position and side, where something is no pair, or not a text that can be encoded as UTF-8.

    """
    if isinstance(inputs, _NOT_SEQUENCES) or not _is_iterable(inputs):
        raise InputError(f"inputs must be a pair of str, or a list of pairs, got {_describe(inputs)}")
    values = list(_to_python(inputs))
    single = bool(values) and not isinstance(values[0], (list, tuple))
    if single and len(values) != len(_SIDES):
        raise InputError(
            f"inputs must be a pair of str, or a list of pairs, got {len(values)} of {_describe(values[0])}: "
            "put each query with its document, [(query, document), ...]"
        )
    return [_check_pair(pair, position) for position, pair in enumerate([values] if single else values)], single


def _check_pair(pair: object, position: int) -> Pair:
    if not isinstance(pair, (list, tuple)):
        raise InputError(f"pair {position} must be two texts, got {_describe(pair)}")
    if len(pair) != len(_SIDES):
        raise InputError(f"pair {position} must be two texts, got {len(pair)}")
    first, second = (
        check_named(text, f"the {side} text of pair {position}") for text, side in zip(pair, _SIDES, strict=True)
    )
    return first, second


def check_utf8(text: str, name: str) -> str:
    """Return ``text`` as a plain str; ``name`` is what an error calls it.

    Raises:
        InputError: it holds a lone surrogate.

    """
    try:
        str.encode(text, "utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}): "
            "put U+FFFD in its place where the text is made"
        ) from error
    # Not str(), for which a subclass may have a method of its own.
    return str.__str__(text)


def _is_iterable(values: object) -> TypeGuard[Iterable[Any]]:
    # An array of no dimension has the method and no use of it.
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) != 0


def _to_python(texts: Iterable[Any]) -> Iterable[object]:
    # tolist() turns NumPy and pandas values into Python ones many times faster than iteration does.
    to_list = getattr(texts, "tolist", None)
    return to_list() if callable(to_list) else texts


def _describe(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{kind} ({value!r})" if isinstance(value, (bool, int, float)) else kind


def _advise(value: object) -> str:
    """Return what to do with a collection where a text is expected."""
    if isinstance(value, Mapping):
        return ": give the text in it, and not the dict"
    if isinstance(value, (list, tuple)):
        return ": give one str for each; pairs are for predict of a CrossEncoder"
    return ""


def noun_of(text: Input) -> str:
    """Return what an error calls a text, or a pair of texts."""
    return "text" if isinstance(text, str) else "pair"


def count_characters(text: Input) -> int:
    """Return the number of characters of a text, or of both texts of a pair."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def check_count(value: object, name: str, maximum: int | None = None) -> int:
    """Return a Python or NumPy integer of at least 1, and at most ``maximum``; ``name`` is what an error calls it.

    Raises:
        InputError: it is not one.

    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} must be a positive integer or None, got {value!r}")
    if maximum is not None and value > maximum:
        raise InputError(f"{name} must be at most {maximum}, got {value!r}")
    return int(value)


def check_flag(value: object, name: str) -> bool:
    """Return True or False, also where it is given as None, a number or NumPy's; ``name`` is what an error calls it.

    Raises:
        InputError: it is anything else, such as an array, which is neither.

    """
    if not isinstance(value, (bool, int, np.bool_, type(None))):
        raise InputError(f"{name} must be True or False, got {_describe(value)}")
    return bool(value)


def resolve_prompt(
    prompts: Mapping[str, str], default_name: str | None, prompt_name: str | None, prompt: str | None
) -> str:
    """Return the prompt of a call, "" for none.

    An explicit ``prompt`` wins over ``prompt_name``, which wins over the model's default, as in
    ``SentenceTransformer.encode``.

    Raises:
        InputError: ``prompt_name`` is not one of the model's prompts, or ``prompt`` is not a str.

    """
    if prompt is not None:
        if prompt_name is not None:
            logger.warning("prompt and prompt_name were both given: prompt is used, prompt_name is not")
        if not isinstance(prompt, str):
            raise InputError(f"prompt must be a str, got {type(prompt).__name__}")
        return check_utf8(prompt, "prompt")
    if prompt_name is None:
        return check_named(prompts.get(default_name, ""), "prompt") if default_name is not None else ""
    if not isinstance(prompt_name, str) or prompt_name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(f"prompt_name {prompt_name!r} is not a prompt of this model; it has: {known}")
    return check_named(prompts[prompt_name], "prompt")


def find_prompt_name(prompts: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the first of ``names`` that the model has a prompt of, None where it has none of them."""
    return next((name for name in names if name in prompts), None)


def add_prompt(text: Input, prompt: str) -> Input:
    """Return a text behind a prompt; of a pair the first text, as Sentence Transformers does."""
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])
