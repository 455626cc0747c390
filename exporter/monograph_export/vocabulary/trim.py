"""Give a loaded model the tokens that are asked for, and prove that texts made of them embed as before."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from monograph.errors import ExportError, ParityError
from monograph_export.probes import probe_sentences, reference_vectors
from monograph_export.vocabulary.coverage import Vocabularies, unlimited
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.scripts import check_scripts
from monograph_export.vocabulary.selection import (
    character_scripts,
    tokens_of_scripts,
    tokens_of_texts,
    tokens_within,
)
from monograph_export.vocabulary.token_models import TokenModel, token_model
from monograph_export.vocabulary.tokenizer_json import added_tokens, reduced, renumbered

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

    def unchanged(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are split into the same tokens as before."""
        differing = set(self.vocabularies.differing(texts))
        return [text for position, text in enumerate(texts) if position not in differing]


def trim(model: SentenceTransformer, asked: Trimming) -> Trimmed | None:
    """Reduce a model's tokenizer and table in place, or return None where nothing is to be done.

    Raises:
        ExportError: a script is not known, the tokenizer's kind cannot be reduced, or no token would go.
        ParityError: texts of the corpus are not embedded as before.

    """
    if not asked.wanted:
        return None
    check_scripts(asked.scripts)
    logger.info("choosing the tokens to keep")
    whole = unlimited(model.tokenizer.backend_tokenizer)
    ids, part = _chosen(whole, asked)
    vocabularies = Vocabularies(whole, part)
    texts = probe_sentences() if asked.corpus is None else list(asked.corpus.texts)
    differing = set(vocabularies.differing(texts))
    if asked.corpus is not None and differing:
        raise ParityError(f"with fewer tokens {texts[min(differing)][:60]!r} is split otherwise than before")
    same = [text for position, text in enumerate(texts) if position not in differing]
    compared = same[:: max(1, len(same) // _COMPARED_VECTORS)]
    reference = reference_vectors(model, compared)
    _install(model, whole, part, ids)
    difference = float(np.abs(reference_vectors(model, compared) - reference).max(initial=0))
    if not difference <= TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0))):
        raise ParityError(f"with fewer tokens the vectors of texts that need no others differ by {difference:.1e}")
    coverage = asked.coverage
    record = {
        "kept": len(ids),
        "of": whole.get_vocab_size(with_added_tokens=True),
        "corpus": None if asked.corpus is None else asked.corpus.name,
        "scripts": list(asked.scripts),
        "character_scripts": sorted(character_scripts(asked)),
        "same_tokens": len(same),
        "same_vectors": len(compared),
        "max_abs_difference": difference,
        "coverage": None
        if coverage is None
        else vocabularies.coverage(coverage.texts, coverage.name, model.tokenizer.unk_token).to_json(),
    }
    return Trimmed(record, vocabularies)


def _chosen(whole: Tokenizer, asked: Trimming) -> tuple[dict[str, int], Tokenizer]:
    """Return the new ids of the tokens to keep, and the tokenizer that has them."""
    spec = json.loads(whole.to_str())
    model = token_model(spec)
    corpus = () if asked.corpus is None else asked.corpus.texts
    kept = model.required() | tokens_of_texts(whole, corpus)
    kept |= tokens_of_scripts(model, asked.scripts, character_scripts(asked))
    ids, part = _with_only(spec, model, kept)
    # Where all tries at a word failed before, one could succeed with fewer tokens: what was tried has to stay.
    if differing := Vocabularies(whole, part).differing(corpus):
        kept |= tokens_within(model, whole, [corpus[position] for position in differing])
        ids, part = _with_only(spec, model, kept)
    if len(ids) >= whole.get_vocab_size(with_added_tokens=True):
        raise ExportError("every token of the vocabulary would be kept: leave out --keep-vocab and --keep-scripts")
    return ids, part


def _with_only(spec: dict[str, Any], model: TokenModel, kept: set[str]) -> tuple[dict[str, int], Tokenizer]:
    ids = renumbered(model, added_tokens(spec), model.completed(kept))
    return ids, Tokenizer.from_str(json.dumps(reduced(spec, model, ids)))


def _install(model: SentenceTransformer, whole: Tokenizer, part: Tokenizer, ids: dict[str, int]) -> None:
    # The only place of a transformers tokenizer that holds the Rust one; transformers sets it in the same way. A copy,
    # for it is told to pad and to truncate at every call.
    model.tokenizer._tokenizer = unlimited(part)
    old_ids = whole.get_vocab(with_added_tokens=True)
    rows = torch.tensor([old_ids[token] for token in sorted(ids, key=ids.__getitem__)])
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
