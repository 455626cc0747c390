"""Prune a loaded model's vocabulary, and prove that texts made of the retained tokens embed as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers.base.model import BaseModel
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from monograph.errors import ExportError, ParityError
from monograph.progress import SILENT, Progress
from monograph.quality import VocabularyReport
from monograph_export.checkpoint.rust_tokenizer import unlimited
from monograph_export.checkpoint.vocabulary_layers import rows_of
from monograph_export.probe_texts import probe_sentences
from monograph_export.tasks.base import ExportTask
from monograph_export.vocabulary.coverage import Vocabularies
from monograph_export.vocabulary.options import VocabularyOptions
from monograph_export.vocabulary.reduction import Reduction, reduce_tokenizer

# A row of the table is the same row at another place, so vectors are the same but for the order of sums.
TOLERANCE = 1e-6
# Texts whose vectors are compared; the tokens of all are.
_COMPARED_VECTORS = 64


@dataclass(frozen=True)
class PrunedVocabulary:
    """What was done to a model's vocabulary, and both vocabularies."""

    report: VocabularyReport
    vocabularies: Vocabularies


def prune_vocabulary(
    model: BaseModel,
    task: ExportTask[str],
    options: VocabularyOptions,
    prompts: Sequence[str] = (),
    progress: Progress = SILENT,
) -> PrunedVocabulary | None:
    """Reduce a model's tokenizer and table in place, or return None where nothing is to be done.

    Its steps are reported to ``progress``.

    Raises:
        ExportError: the tokenizer's kind cannot be reduced, or no token would go.
        ParityError: texts of the corpora are not embedded as before.

    """
    if not options.prunes:
        return None
    tokenizer = model.tokenizer.backend_tokenizer
    # transformers sets it anew at every call; with it a copy has no special tokens.
    tokenizer.encode_special_tokens = False
    whole = unlimited(tokenizer)
    with progress.step("Choosing the tokens to retain"):
        reduction = reduce_tokenizer(whole, options, prompts)
    corpus, others = options.corpus, options.coverage_texts
    same = reduction.vocabularies.usable(probe_sentences()) if corpus is None else list(corpus.texts)
    chosen = same[:: -(-len(same) // _COMPARED_VECTORS) or 1]
    compared = [*chosen, *(prompt + text for prompt in prompts for text in chosen)]
    with progress.step("Comparing vectors with the whole vocabulary's", 2 * len(compared), task.task.inputs) as step:
        reference = task.outputs(model, compared, step=step)
        _install(model, whole, reduction)
        difference = float(np.abs(task.outputs(model, compared, step=step) - reference).max(initial=0))
    if not difference <= TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0))):
        raise ParityError(
            f"with fewer tokens the vectors of texts that need no others differ by {difference:.1e}: the model uses "
            "token ids for more than its table, so leave out --keep-vocab and --keep-scripts"
        )
    report = VocabularyReport(
        tokens=len(reduction.ids),
        original_tokens=whole.get_vocab_size(with_added_tokens=True),
        corpus=None if corpus is None else corpus.name,
        scripts=options.scripts,
        character_scripts=tuple(sorted(reduction.character_scripts)),
        same_tokens=len(same),
        same_vectors=len(compared),
        max_abs_difference=difference,
        coverage=None if others is None else reduction.vocabularies.coverage(others.texts, others.name),
    )
    return PrunedVocabulary(report, reduction.vocabularies)


def _install(model: BaseModel, whole: Tokenizer, reduction: Reduction) -> None:
    # The only place of a transformers tokenizer that holds the Rust one; transformers sets it in the same way. A copy,
    # for padding and truncation of it are set at every call.
    model.tokenizer._tokenizer = unlimited(reduction.tokenizer)
    old_ids = whole.get_vocab(with_added_tokens=True)
    retained = [old_ids[token] for token in sorted(reduction.ids, key=reduction.ids.__getitem__)]
    # Added tokens past the table have no row; their ids stay behind all others, for tokens keep their order.
    rows = [row for row in retained if row < rows_of(model)]
    if rows != retained[: len(rows)]:
        raise ExportError(
            "the tokenizer has tokens without an embedding between others: leave out --keep-vocab and --keep-scripts"
        )
    retain_rows(model[0].auto_model, torch.tensor(rows))


def retain_rows(encoder: PreTrainedModel, rows: torch.Tensor) -> None:
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
