"""A tokenizer beside the table of embeddings that its ids are rows of: whether it is the model's, and whole."""

from __future__ import annotations

import logging

from tokenizers import Tokenizer

from monograph.errors import ExportError
from monograph_export.checkpoint.rust_tokenizer import VOCABULARY_FILES, unlimited, vocabulary_size_of

logger = logging.getLogger(__name__)
# Where its vocabulary is missing, transformers makes a tokenizer of its special tokens alone. A few more are no
# vocabulary either, beside a table of many: of alphabets (proteins have 20 letters, DNA 4) the table is as small.
_NO_VOCABULARY, _TINY = 3, 32
_LARGE_TABLE_ROWS, _LARGE_TABLE_RATIO = 128, 12
_QUOTED = 3


def used_rows(tokenizer: Tokenizer, rows: int) -> int:
    """Return the manifest's ``vocabulary_size``: one more than the largest id that has a row of the table."""
    return min(vocabulary_size_of(tokenizer), rows)


def check_vocabulary(tokenizer: Tokenizer, rows: int) -> None:
    """Compare a tokenizer with a table of embeddings of so many rows.

    Added tokens may lie behind the table: a text that spells one is refused when it is embedded.

    Raises:
        ExportError: it has no vocabulary, or gives ids without a row for texts that spell no such token.

    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    ordinary = {token: id_ for token, id_ in vocabulary.items() if token not in added}
    size = vocabulary_size_of(tokenizer)
    tiny = len(ordinary) < _TINY and rows >= max(_LARGE_TABLE_ROWS, _LARGE_TABLE_RATIO * size)
    if len(ordinary) <= _NO_VOCABULARY or tiny:
        raise ExportError(
            f"the tokenizer has {len(ordinary)} tokens beside its special ones, and the embedding table {rows} rows: "
            f"the checkpoint is incomplete, its vocabulary is missing ({VOCABULARY_FILES}), so download it again"
        )
    if size <= rows:
        return
    if (largest := max(ordinary.values())) >= rows:
        raise ExportError(
            f"the tokenizer gives ids up to {largest}, and the embedding table has {rows} rows: "
            "the tokenizer is another model's"
        )
    past = {id_: token.content for id_, token in sorted(tokenizer.get_added_tokens_decoder().items()) if id_ >= rows}
    _check_reach(tokenizer, past, rows)
    logger.warning(
        "the embedding table has %d rows and none for the added token%s %s: texts that spell %s will be refused",
        rows,
        "" if len(past) == 1 else "s",
        ", ".join(f"{token!r} ({id_})" for id_, token in list(past.items())[:_QUOTED])
        + (f" and {len(past) - _QUOTED} more" if len(past) > _QUOTED else ""),
        "it" if len(past) == 1 else "one",
    )


def _check_reach(tokenizer: Tokenizer, past: dict[int, str], rows: int) -> None:
    """Refuse tokens behind the table that texts have without spelling them.

    Raises:
        ExportError: the tokenizer adds one to every text, or has it for what is unknown.

    """
    plain = unlimited(tokenizer)
    around = {*plain.encode("").ids, *plain.encode("", "").ids}
    unknown = plain.token_to_id(str(getattr(plain.model, "unk_token", None)))
    for id_, where in [*((id_, "adds to every text") for id_ in sorted(around)), (unknown, "gives for unknown words")]:
        if id_ is not None and id_ in past:
            raise ExportError(
                f"the tokenizer {where} the token {past[id_]!r} (id {id_}), and the embedding table has {rows} rows: "
                "resize the model's embeddings to its tokenizer (resize_token_embeddings), or give the tokenizer that "
                "the model was trained with"
            )
