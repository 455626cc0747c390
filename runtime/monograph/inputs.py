"""What a model computes one output of: a text, or a pair of texts."""

from __future__ import annotations

from typing import TypeVar

Pair = tuple[str, str]
Input = str | Pair
# Of one kind in a call.
InputT = TypeVar("InputT", bound=Input)


def with_prompt(given: Input, prompt: str) -> Input:
    """Return an input behind a prompt; of a pair the first text, as Sentence Transformers does."""
    return prompt + given if isinstance(given, str) else (prompt + given[0], given[1])


def characters(given: Input) -> int:
    """Return the characters of an input."""
    return len(given) if isinstance(given, str) else len(given[0]) + len(given[1])
