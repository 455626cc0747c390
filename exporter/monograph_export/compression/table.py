"""Give a model an embedding table of int8 rows."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from torch import nn

from monograph.errors import ExportError
from monograph_export.compression.int8 import Int8Table

# Above this many rows the table is most of a model, and int8 is the default.
LARGE_VOCABULARY = 100_000


def has_plain_table(model: SentenceTransformer) -> bool:
    """Tell whether the token embeddings do nothing but look up rows: some models scale them."""
    return type(model[0].auto_model.get_input_embeddings()) is nn.Embedding


def has_large_table(model: SentenceTransformer) -> bool:
    """Tell whether the token embeddings have so many rows that int8 is the default."""
    return int(model[0].auto_model.get_input_embeddings().num_embeddings) > LARGE_VOCABULARY


def compress_table(model: SentenceTransformer) -> None:
    """Replace the table of token embeddings by one of int8 rows with a scale each, a quarter of its size.

    Raises:
        ExportError: the table does more than look up rows.

    """
    encoder = model[0].auto_model
    table = encoder.get_input_embeddings()
    if not has_plain_table(model):
        raise ExportError(
            f"the embedding table is a {type(table).__name__}, which has no int8 form: choose --table fp32"
        )
    encoder.set_input_embeddings(Int8Table(table))
