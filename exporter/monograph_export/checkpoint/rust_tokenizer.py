"""Rust tokenizers apart from what they came with, and as one tokenizer.json that needs no other file."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import ExportError

TOKENIZER_FILE = "tokenizer.json"
# transformers gives a tokenizer without a stated limit an astronomic one.
NO_LIMIT = 10**9


def copied(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that does not pad.

    A copy, for transformers sets padding and truncation of its own one anew at every call.
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
    """Return a copy that truncates texts to so many tokens, special ones included, at a side.

    Raises:
        ExportError: ``max_length`` is no number of tokens, or the special tokens alone are more.

    """
    copy = unlimited(tokenizer)
    if max_length is None:
        return copy
    special = max(copy.num_special_tokens_to_add(is_pair=False), 1)
    if isinstance(max_length, bool) or not isinstance(max_length, (int, float)) or not max_length >= special:
        raise ExportError(
            f"max_seq_length is {max_length!r}, and must be a number of tokens, at least {special}: correct it in "
            "sentence_bert_config.json"
        )
    if max_length < NO_LIMIT:
        copy.enable_truncation(int(max_length), direction=side)
    return copy


def max_length_of(tokenizer: Tokenizer) -> int | None:
    """Return the tokens that a tokenizer retains of a text, special ones included; None for all."""
    return None if tokenizer.truncation is None else int(tokenizer.truncation["max_length"])


def vocabulary_size_of(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def write_tokenizer(
    tokenizer: Tokenizer, path: Path, pad_id: int | None, special_ids: tuple[int, ...] = ()
) -> TokenizerSpec:
    """Write a tokenizer that does all that is done with texts, truncation included, and describe it."""
    # Its own save() raises no OSError for a full disk.
    path.write_text(tokenizer.to_str(pretty=False), encoding="utf-8", newline="")
    return TokenizerSpec(
        file=path.name,
        max_length=max_length_of(tokenizer),
        padding_side="right",
        # Padding is masked, so any id would do; 0 where the model names none.
        pad_id=0 if pad_id is None else int(pad_id),
        vocabulary_size=vocabulary_size_of(tokenizer),
        special_ids=special_ids,
    )


def check_rows(vocabulary_size: int, rows: int) -> None:
    """Compare a tokenizer, whose largest id is one less than ``vocabulary_size``, with a table of embeddings.

    Raises:
        ExportError: it gives ids that the table has no row for.

    """
    if vocabulary_size > rows:
        raise ExportError(
            f"the tokenizer gives ids up to {vocabulary_size - 1}, and the embedding table has {rows} rows: "
            "the tokenizer is another model's"
        )
