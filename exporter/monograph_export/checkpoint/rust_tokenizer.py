"""Rust tokenizers apart from what they came with, and as one tokenizer.json that needs no other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import BundleError, ExportError, first_line
from monograph.tokenization import TextTokenizer

TOKENIZER_FILE = "tokenizer.json"
# Where tokenizers have their vocabulary, in words.
VOCABULARY_FILES = "tokenizer.json, or vocab.txt, vocab.json with merges.txt, or the sentencepiece .model"


def copied(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that does not pad, and splits special tokens as text where the tokenizer is set to do so.

    A copy, for transformers sets padding and truncation of its own one anew at every call.

    Raises:
        ExportError: the tokenizer has a step, or a setting, that no tokenizer.json can hold.

    """
    try:
        content = tokenizer.to_str()
    except Exception as error:
        # A normalizer, pre-tokenizer or decoder that is a Python object.
        raise ExportError(
            f"a step of the tokenizer is Python code, which no tokenizer.json can hold ({first_line(error)}): the Rust "
            "tokenizers cannot run it without Python"
        ) from error
    if tokenizer.encode_special_tokens:
        content = json.dumps(_without_special_tokens(json.loads(content)), ensure_ascii=False)
    copy = Tokenizer.from_str(content)
    copy.no_padding()
    return copy


def _without_special_tokens(content: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that splits special tokens as any other text.

    ``encode_special_tokens`` is a setting of a tokenizer at run time that its file does not have. Without an entry
    among the added tokens, a token is matched in no text; the step that adds special tokens has their ids by itself.

    Raises:
        ExportError: the setting has effects that a file cannot have.

    """
    special = [token["content"] for token in content["added_tokens"] if token["special"]]
    retained = [token for token in content["added_tokens"] if not token["special"]]
    # The setting skips what a special token matches, with whatever begins in it.
    for token in retained:
        if hidden := next((one for one in special if _may_overlap(one, token["content"])), None):
            raise ExportError(
                f"the tokenizer has split_special_tokens, and its special token {hidden!r} overlaps with the token "
                f"{token['content']!r}: no tokenizer.json can hold that, so load the model without the setting"
            )
    return {**content, "added_tokens": retained}


def _may_overlap(special: str, other: str) -> bool:
    """Tell whether another token may begin within an occurrence of a special one."""
    return any(special[start:].startswith(other) or other.startswith(special[start:]) for start in range(len(special)))


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that neither pads nor truncates."""
    copy = copied(tokenizer)
    copy.no_truncation()
    return copy


def limited(tokenizer: Tokenizer, max_length: int | None, side: str) -> Tokenizer:
    """Return a copy that truncates texts to so many tokens, special ones included, at a side; None for no limit."""
    copy = unlimited(tokenizer)
    if max_length is not None:
        copy.enable_truncation(max_length, direction=side)
    return copy


def max_length_of(tokenizer: Tokenizer) -> int | None:
    """Return the tokens that a tokenizer retains of a text, special ones included; None for all."""
    return None if tokenizer.truncation is None else int(tokenizer.truncation["max_length"])


def vocabulary_size_of(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def write_tokenizer(
    tokenizer: Tokenizer,
    path: Path,
    vocabulary_size: int,
    pad_id: int | None,
    special_ids: tuple[int, ...] = (),
    min_length: int = 0,
) -> TokenizerSpec:
    """Write a tokenizer that does all that is done with texts, truncation included, and describe it.

    ``vocabulary_size`` and ``min_length`` are those of the manifest.
    """
    # Its own save() raises no OSError for a full disk.
    path.write_text(tokenizer.to_str(pretty=False), encoding="utf-8", newline="")
    return TokenizerSpec(
        file=path.name,
        max_length=max_length_of(tokenizer),
        padding_side="right",
        # Padding is masked, so any id would do; 0 where the model names none, or one without an embedding.
        pad_id=int(pad_id) if pad_id is not None and 0 <= pad_id < vocabulary_size else 0,
        vocabulary_size=vocabulary_size,
        special_ids=tuple(id_ for id_ in special_ids if 0 <= id_ < vocabulary_size),
        min_length=min_length,
    )


def read_written(path: Path) -> TextTokenizer:
    """Return the tokenizer of a file that was written here, as a bundle's is read.

    Raises:
        ExportError: it has a setting that no bundle may have.

    """
    try:
        return TextTokenizer(path)
    except BundleError as error:
        reason = first_line(error.__cause__ or error)
        raise ExportError(
            f"the tokenizer cannot be part of a bundle ({reason}): change that in the checkpoint's {TOKENIZER_FILE}"
        ) from error
