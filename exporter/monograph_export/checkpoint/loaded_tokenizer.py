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
from monograph_export.checkpoint.max_length import checked_length
from monograph_export.checkpoint.rust_tokenizer import copied, limited, write_tokenizer
from monograph_export.checkpoint.token_rows import check_vocabulary, used_rows
from monograph_export.checkpoint.vocabulary_layers import rows_of
from monograph_export.probe_texts import chosen_tokens

_QUOTED = 60
_ATTENTION_MASK = "attention_mask"


def mark_padding(model: BaseModel) -> None:
    """Have a model's tokenizer give the attention mask, in place, where its settings leave that out.

    Sentence Transformers then computes from the padding of a batch as from text; alone, a text has the same vector.
    """
    if isinstance(model[0], StaticEmbedding):
        return
    names = list(model.tokenizer.model_input_names)
    if _ATTENTION_MASK not in names:
        model.tokenizer.model_input_names = [*names, _ATTENTION_MASK]


def tokenizer_of(model: BaseModel) -> Tokenizer:
    """Return a copy of a model's tokenizer that does all that the model does with texts, truncation included."""
    first = model[0]
    if isinstance(first, StaticEmbedding):
        tokenizer = copied(first.tokenizer)
        # It adds no special tokens, and these are all that the step adds.
        tokenizer.post_processor = None
        return tokenizer
    max_length = checked_length(model.max_seq_length, "the model", "the maximum length")
    tokenizer = limited(_rust_tokenizer(model), max_length, model.tokenizer.truncation_side)
    if isinstance(first, SparseStaticEmbedding):
        # Nor does this.
        tokenizer.post_processor = None
    return tokenizer


def _rust_tokenizer(model: BaseModel) -> Tokenizer:
    """Return the model's own Rust tokenizer, set as it is at run time.

    transformers applies settings at every call: split_special_tokens, and the language of multilingual models.
    """
    if isinstance(model[0], StaticEmbedding):
        return model[0].tokenizer  # type: ignore[no-any-return]
    # Of the empty text: a tokenizer without a vocabulary fails on others.
    model.tokenizer("")
    return model.tokenizer.backend_tokenizer  # type: ignore[no-any-return]


def spelled_tokens(model: BaseModel) -> list[str]:
    """Return the special and other added tokens that the probes of a model spell."""
    named = [] if isinstance(model[0], StaticEmbedding) else model.tokenizer.all_special_tokens
    return chosen_tokens(_rust_tokenizer(model), named)


def token_ids(model: BaseModel, text: Input) -> list[int]:
    """Return the ids that a model computes a text, or a pair, from."""
    ids: list[int] = model.preprocess([text])["input_ids"].flatten().tolist()
    return ids


def _ids_of_text(model: BaseModel, text: Input) -> list[int]:
    """Return the ids of ``token_ids`` without those that fill up a short query, which no tokenizer gives."""
    features = model.preprocess([text])
    ids, filled = features["input_ids"].flatten(), features.get("query_expansion_positions")
    given: list[int] = (ids if filled is None else ids[~filled.flatten().bool()]).tolist()
    return given


def _start(text: Input) -> Input:
    """Return as much of a text or pair as an error may quote."""
    return text[:_QUOTED] if isinstance(text, str) else (text[0][:_QUOTED], text[1][:_QUOTED])


def pools_without_prompt(model: BaseModel) -> bool:
    """Tell whether a model leaves the tokens of a prompt out of its pooling."""
    return any(isinstance(module, Pooling) and not module.include_prompt for module in model)


def store_tokenizer(model: BaseModel, path: Path, min_length: int) -> TokenizerSpec:
    """Write a file of the tokenizer with lower-casing and truncation as the model applies them."""
    return write_tokenizer(
        tokenizer_of(model),
        path,
        used_rows(_rust_tokenizer(model), rows_of(model)),
        pad_id=_pad_id(model),
        special_ids=tuple(sorted(model.tokenizer.all_special_ids)) if pools_without_prompt(model) else (),
        min_length=min_length,
    )


def _pad_id(model: BaseModel) -> int | None:
    """Return the id that a model's texts are padded with, None where it has none."""
    if isinstance(model[0], StaticEmbedding):
        return None
    # A decoder's classifier finds the last token of a text by the id that its config calls padding.
    of_config = getattr(model[0].config, "pad_token_id", None) if _classifies(model) else None
    pad_id: int | None = model.tokenizer.pad_token_id if of_config is None else of_config
    return pad_id


def _classifies(model: BaseModel) -> bool:
    return getattr(model[0], "transformer_task", None) == "sequence-classification"


def check_table(model: BaseModel) -> None:
    """Compare a model's tokenizer with its table of embeddings.

    Raises:
        ExportError: the tokenizer has no vocabulary, or gives ids that the table has no row for.

    """
    # Not by tokenizer_of: a copy of LaBSE's vocabulary takes seconds.
    check_vocabulary(_rust_tokenizer(model), rows_of(model))


def check_tokenizer(model: BaseModel, tokenizer: TextTokenizer, texts: Sequence[Input]) -> None:
    """Compare the token ids of the written tokenizer with those that the model itself computes from.

    The model's are those of its own tokenizer, as Sentence Transformers calls it.

    Raises:
        ParityError: naming the first text whose ids differ.

    """
    tokens = tokenizer(texts)
    for position, text in enumerate(texts):
        expected = _ids_of_text(model, text)
        written = tokens.ids[tokens.starts[position] : tokens.starts[position + 1]].tolist()
        if written != expected:
            raise ParityError(
                f"tokenizer.json gives {written[:12]}... where the checkpoint's tokenizer gives {expected[:12]}... "
                f"for {_start(text)!r}: the tokenizer has steps outside its Rust form"
            )
