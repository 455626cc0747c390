"""Rust tokenizers apart from what they came with."""

from __future__ import annotations

from tokenizers import Tokenizer

# transformers gives a tokenizer without a stated limit an astronomic one.
_NO_LIMIT = 10**9


def copied(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that does not pad.

    A copy, for transformers tells its own one anew at every call what to pad and to truncate.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    return copy


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that neither pads nor truncates."""
    copy = copied(tokenizer)
    copy.no_truncation()
    return copy


def limited(tokenizer: Tokenizer, max_length: float | None, side: str) -> Tokenizer:
    """Return a copy that keeps so many tokens of a text, special ones included, and cuts the others at a side."""
    copy = unlimited(tokenizer)
    if max_length is not None and max_length < _NO_LIMIT:
        copy.enable_truncation(int(max_length), direction=side)
    return copy


def max_length_of(tokenizer: Tokenizer) -> int | None:
    """Return the tokens that a tokenizer keeps of a text, special ones included; None for all."""
    return None if tokenizer.truncation is None else int(tokenizer.truncation["max_length"])
