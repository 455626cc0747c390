"""The checkpoint's tokenizer as one tokenizer.json that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import ExportError, ParityError
from monograph.tokenization import TextTokenizer
from monograph_export.checkpoint.rust_tokenizer import unlimited

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOKENIZER_FILE = "tokenizer.json"
# transformers gives a tokenizer without a stated limit an astronomic one.
_NO_LIMIT = 10**9


def store_tokenizer(model: SentenceTransformer, folder: Path) -> TokenizerSpec:
    """Write tokenizer.json with lower-casing and truncation as the model applies them."""
    tokenizer = model.tokenizer
    return write_tokenizer(
        tokenizer.backend_tokenizer, folder, model.max_seq_length, tokenizer.truncation_side, tokenizer.pad_token_id
    )


def write_tokenizer(
    tokenizer: Tokenizer, folder: Path, limit: int | None, truncation_side: str, pad_id: int | None
) -> TokenizerSpec:
    """Write a tokenizer as tokenizer.json; ``limit`` counts the tokens that are kept of a text."""
    max_length = None if limit is None or limit >= _NO_LIMIT else int(limit)
    backend = unlimited(tokenizer)
    if max_length is not None:
        backend.enable_truncation(max_length, direction=truncation_side)
    path = folder / TOKENIZER_FILE
    backend.save(str(path), pretty=False)
    return TokenizerSpec(
        file=TOKENIZER_FILE,
        max_length=max_length,
        padding_side="right",
        # Padding is masked, so any id would do; 0 where the model names none.
        pad_id=0 if pad_id is None else int(pad_id),
        vocabulary_size=TextTokenizer(path).vocabulary_size,
    )


def check_rows(model: SentenceTransformer) -> None:
    """Compare a model's tokenizer with its embedding table.

    Raises:
        ExportError: the tokenizer gives ids that the table has no row for.

    """
    rows = model[0].auto_model.get_input_embeddings().num_embeddings
    largest = max(model.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= rows:
        raise ExportError(
            f"the tokenizer gives ids up to {largest}, and the embedding table has {rows} rows: "
            "the tokenizer is another model's"
        )


def check_tokenizer(model: SentenceTransformer, path: Path, texts: Sequence[str]) -> None:
    """Compare the token ids of the written tokenizer with those that the model itself computes from.

    Raises:
        ParityError: naming the first text whose ids differ.

    """
    tokens = TextTokenizer(path)(texts)
    for position, text in enumerate(texts):
        expected = model.preprocess([text])["input_ids"][0].tolist()
        found = tokens.ids[tokens.starts[position] : tokens.starts[position + 1]].tolist()
        if found != expected:
            raise ParityError(
                f"tokenizer.json gives {found[:12]}... where the checkpoint's tokenizer gives {expected[:12]}... "
                f"for {text[:60]!r}: the tokenizer has steps outside its Rust form"
            )
