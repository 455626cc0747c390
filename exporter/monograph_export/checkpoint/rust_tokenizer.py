"""The Rust tokenizer of a loaded model, apart from the model."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

# transformers gives a tokenizer without a stated limit an astronomic one.
_NO_LIMIT = 10**9


def tokenizer_of(model: SentenceTransformer) -> Tokenizer:
    """Return a copy of a model's tokenizer that does all that the model does with texts, truncation included."""
    first = model[0]
    if isinstance(first, StaticEmbedding):
        tokenizer = _copied(first.tokenizer)
        # It asks for no special tokens, and these are all that the step adds.
        tokenizer.post_processor = None
        return tokenizer
    tokenizer = unlimited(model.tokenizer.backend_tokenizer)
    limit = model.max_seq_length
    if limit is not None and limit < _NO_LIMIT:
        tokenizer.enable_truncation(int(limit), direction=model.tokenizer.truncation_side)
    return tokenizer


def max_length_of(tokenizer: Tokenizer) -> int | None:
    """Return the tokens that a tokenizer keeps of a text, special ones included; None for all."""
    return None if tokenizer.truncation is None else int(tokenizer.truncation["max_length"])


def token_ids(model: SentenceTransformer, text: str) -> list[int]:
    """Return the ids that a model computes a text from."""
    ids: list[int] = model.preprocess([text])["input_ids"].flatten().tolist()
    return ids


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that neither pads nor truncates.

    A copy, for transformers tells its own one anew at every call what to pad and to truncate.
    """
    copy = _copied(tokenizer)
    copy.no_truncation()
    return copy


def _copied(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    return copy
