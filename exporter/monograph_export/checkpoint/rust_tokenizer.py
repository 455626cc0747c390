"""The Rust tokenizer of a loaded model, apart from the model."""

from __future__ import annotations

from tokenizers import Tokenizer


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that neither pads nor truncates.

    A copy, for transformers tells its own one anew at every call what to pad and to truncate.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy
