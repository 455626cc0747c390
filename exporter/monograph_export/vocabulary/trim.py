"""Give a loaded model the tokens that are asked for, and prove that texts made of them embed as before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from monograph.errors import ParityError
from monograph_export.checkpoint.rust_tokenizer import unlimited
from monograph_export.probe_texts import probe_sentences
from monograph_export.probes import reference_vectors
from monograph_export.vocabulary.coverage import Vocabularies
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.reduction import Reduction, reduce_tokenizer

logger = logging.getLogger(__name__)
# A row of the table is the same row at another place, so vectors are the same but for the order of sums.
TOLERANCE = 1e-6
# Texts whose vectors are compared; the tokens of all are.
_COMPARED_VECTORS = 64


@dataclass(frozen=True)
class Trimmed:
    """What was done to a model's vocabulary, as JSON values, and both vocabularies."""

    record: dict[str, Any]
    vocabularies: Vocabularies


def trim(model: SentenceTransformer, asked: Trimming, prompts: Sequence[str] = ()) -> Trimmed | None:
    """Reduce a model's tokenizer and table in place, or return None where nothing is to be done.

    Raises:
        ExportError: the tokenizer's kind cannot be reduced, or no token would go.
        ParityError: texts of the corpora are not embedded as before.

    """
    if not asked.wanted:
        return None
    logger.info("choosing the tokens to keep")
    whole = unlimited(model.tokenizer.backend_tokenizer)
    found = reduce_tokenizer(whole, asked, prompts)
    corpus = asked.corpus
    same = found.vocabularies.usable(probe_sentences()) if corpus is None else list(corpus.texts)
    chosen = same[:: -(-len(same) // _COMPARED_VECTORS) or 1]
    compared = [*chosen, *(prompt + text for prompt in prompts for text in chosen)]
    reference = reference_vectors(model, compared)
    _install(model, whole, found)
    difference = float(np.abs(reference_vectors(model, compared) - reference).max(initial=0))
    if not difference <= TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0))):
        raise ParityError(
            f"with fewer tokens the vectors of texts that need no others differ by {difference:.1e}: the model uses "
            "token ids for more than its table, so leave out --keep-vocab and --keep-scripts"
        )
    other = asked.other_texts
    record = {
        "kept": len(found.ids),
        "of": whole.get_vocab_size(with_added_tokens=True),
        "corpus": None if corpus is None else corpus.name,
        "scripts": list(asked.scripts),
        "character_scripts": sorted(found.character_scripts),
        "same_tokens": len(same),
        "same_vectors": len(compared),
        "max_abs_difference": difference,
        "coverage": None if other is None else asdict(found.vocabularies.coverage(other.texts, other.name)),
    }
    return Trimmed(record, found.vocabularies)


def _install(model: SentenceTransformer, whole: Tokenizer, found: Reduction) -> None:
    # The only place of a transformers tokenizer that holds the Rust one; transformers sets it in the same way. A copy,
    # for it is told to pad and to truncate at every call.
    model.tokenizer._tokenizer = unlimited(found.tokenizer)
    old_ids = whole.get_vocab(with_added_tokens=True)
    rows = torch.tensor([old_ids[token] for token in sorted(found.ids, key=found.ids.__getitem__)])
    keep_rows(model[0].auto_model, rows)


def keep_rows(encoder: PreTrainedModel, rows: torch.Tensor) -> None:
    """Reduce the table of token embeddings, and an output layer over the vocabulary, to some rows, int64 [n]."""
    layers = (encoder.get_input_embeddings(), encoder.get_output_embeddings())
    # Tied layers have one table, whose rows are moved once.
    tables = {id(table): table for layer in layers if layer is not None for table in layer.parameters(recurse=False)}
    with torch.no_grad():
        for table in tables.values():
            table[: len(rows)] = table[rows]
    # Cuts off what lies behind, in every layer that has a row for each token.
    encoder.resize_token_embeddings(len(rows))
    encoder.requires_grad_(False)
