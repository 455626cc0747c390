"""Give a model an embedding table of int8 rows."""

from __future__ import annotations

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn

from monograph.errors import ExportError
from monograph_export.checkpoint.vocabulary_layers import (
    decoder_of,
    rows_of,
    set_decoder,
    set_token_table,
    token_table,
)
from monograph_export.compression.int8 import Int8Bag, Int8Linear, Int8Table
from monograph_export.compression.options import LARGE_VOCABULARY


def has_plain_table(model: BaseModel) -> bool:
    """Tell whether the token embeddings do nothing but look up rows: some models scale them."""
    return type(token_table(model)) in (nn.Embedding, nn.EmbeddingBag)


def has_large_table(model: BaseModel) -> bool:
    """Tell whether the token embeddings have so many rows that int8 is the default."""
    return rows_of(model) > LARGE_VOCABULARY


def compress_table(model: BaseModel) -> None:
    """Replace the table of token embeddings by one of int8 rows with a scale each, a quarter of its size.

    Raises:
        ExportError: the table does more than look up rows.

    """
    table = token_table(model)
    if not isinstance(table, (nn.Embedding, nn.EmbeddingBag)) or not has_plain_table(model):
        raise ExportError(f"the embedding table is a {type(table).__name__}, which cannot be int8: choose --table fp32")
    int8 = Int8Table(table)
    set_token_table(model, Int8Bag(int8) if isinstance(table, nn.EmbeddingBag) else int8)
    _copy_remaining_weights(model, table.weight)


def _copy_remaining_weights(model: BaseModel, replaced: Tensor) -> None:
    """Copy all weights into memory of their own, unless a tied head still needs the replaced table.

    They lie beside it in the checkpoint's file, which is mapped: the table's pages, of which quantizing has read every
    one, are unmapped with the file's last tensor.
    """
    weights = list(model.parameters())
    if any(weight.data_ptr() == replaced.data_ptr() for weight in weights):
        return
    for weight in weights:
        weight.data = weight.data.clone()


def quantize_mlm_head(model: BaseModel) -> None:
    """Give the float32 decoder of an MLM head int8 weights; it mostly shares its weights with the table.

    Left as it is, such a decoder would keep the float32 table in the bundle, beside the int8 one.
    """
    decoder = decoder_of(model)
    if isinstance(decoder, nn.Linear) and decoder.weight.dtype == torch.float32:
        set_decoder(model, Int8Linear(decoder, None, None))
