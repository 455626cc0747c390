"""A tokenizer as one tokenizer.json that needs no other file."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.tokenization import TextTokenizer
from monograph_export.checkpoint.rust_tokenizer import max_length_of

TOKENIZER_FILE = "tokenizer.json"


def write_tokenizer(
    tokenizer: Tokenizer, path: Path, pad_id: int | None, special_ids: tuple[int, ...] = ()
) -> TokenizerSpec:
    """Write a tokenizer that does all that is done with texts, truncation included, and describe it."""
    tokenizer.save(str(path), pretty=False)
    return TokenizerSpec(
        file=path.name,
        max_length=max_length_of(tokenizer),
        padding_side="right",
        # Padding is masked, so any id would do; 0 where the model names none.
        pad_id=0 if pad_id is None else int(pad_id),
        vocabulary_size=TextTokenizer(path).vocabulary_size,
        special_ids=special_ids,
    )
