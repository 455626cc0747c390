"""The tokenizer of a loaded model: what it does with texts, as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import ParityError
from monograph.inputs import Input
from monograph.tokenization import TextTokenizer
from monograph_export.checkpoint.rust_tokenizer import (
    check_rows,
    copied,
    limited,
    vocabulary_size_of,
    write_tokenizer,
)
from monograph_export.checkpoint.vocabulary_layers import rows_of

_QUOTED = 60


def tokenizer_of(model: BaseModel) -> Tokenizer:
    """Return a copy of a model's tokenizer that does all that the model does with texts, truncation included."""
    first = model[0]
    if isinstance(first, StaticEmbedding):
        tokenizer = copied(first.tokenizer)
        # It adds no special tokens, and these are all that the step adds.
        tokenizer.post_processor = None
        return tokenizer
    tokenizer = limited(model.tokenizer.backend_tokenizer, model.max_seq_length, model.tokenizer.truncation_side)
    if isinstance(first, SparseStaticEmbedding):
        # Nor does this.
        tokenizer.post_processor = None
    return tokenizer


def token_ids(model: BaseModel, text: Input) -> list[int]:
    """Return the ids that a model computes a text, or a pair, from."""
    ids: list[int] = model.preprocess([text])["input_ids"].flatten().tolist()
    return ids


def _start(text: Input) -> Input:
    """Return as much of a text or pair as an error may quote."""
    return text[:_QUOTED] if isinstance(text, str) else (text[0][:_QUOTED], text[1][:_QUOTED])


def pools_without_prompt(model: BaseModel) -> bool:
    """Tell whether a model leaves the tokens of a prompt out of its pooling."""
    return any(isinstance(module, Pooling) and not module.include_prompt for module in model)


def store_tokenizer(model: BaseModel, path: Path) -> TokenizerSpec:
    """Write a file of the tokenizer with lower-casing and truncation as the model applies them."""
    return write_tokenizer(
        tokenizer_of(model),
        path,
        pad_id=None if isinstance(model[0], StaticEmbedding) else model.tokenizer.pad_token_id,
        special_ids=tuple(sorted(model.tokenizer.all_special_ids)) if pools_without_prompt(model) else (),
    )


def check_table(model: BaseModel) -> None:
    """Compare a model's tokenizer with its table of embeddings.

    Raises:
        ExportError: the tokenizer gives ids that the table has no row for.

    """
    # Not by tokenizer_of: a copy of LaBSE's vocabulary takes seconds.
    own = model.tokenizer if isinstance(model[0], StaticEmbedding) else model.tokenizer.backend_tokenizer
    check_rows(vocabulary_size_of(own), rows_of(model))


def check_tokenizer(model: BaseModel, path: Path, texts: Sequence[Input]) -> None:
    """Compare the token ids of the written tokenizer with those that the model itself computes from.

    Raises:
        ParityError: naming the first text whose ids differ.

    """
    tokens = TextTokenizer(path)(texts)
    for position, text in enumerate(texts):
        expected = token_ids(model, text)
        written = tokens.ids[tokens.starts[position] : tokens.starts[position + 1]].tolist()
        if written != expected:
            raise ParityError(
                f"tokenizer.json gives {written[:12]}... where the checkpoint's tokenizer gives {expected[:12]}... "
                f"for {_start(text)!r}: the tokenizer has steps outside its Rust form"
            )
