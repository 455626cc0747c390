"""A tokenizer reduced to the tokens that are asked for."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from monograph.errors import ExportError
from monograph_export.vocabulary.coverage import Vocabularies
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.selection import (
    character_scripts,
    tokens_of_scripts,
    tokens_of_texts,
    tokens_within,
)
from monograph_export.vocabulary.token_models import TokenModel, token_model
from monograph_export.vocabulary.tokenizer_json import added_tokens, reduced, renumbered


def reduce_tokenizer(whole: Tokenizer, asked: Trimming) -> tuple[dict[str, int], Tokenizer]:
    """Return the new ids of the tokens to keep, and a tokenizer with only these; ``whole`` neither pads nor truncates.

    Raises:
        ExportError: the tokenizer's kind cannot be reduced, or no token would go.

    """
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
