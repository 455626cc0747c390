"""A tokenizer reduced to the tokens that are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from monograph.errors import ExportError, ParityError
from monograph_export.vocabulary.coverage import Vocabularies
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.selection import (
    character_scripts,
    tokens_of_scripts,
    tokens_of_texts,
    tokens_within,
)
from monograph_export.vocabulary.token_models import TokenModel, token_model
from monograph_export.vocabulary.tokenizer_json import added_tokens, processor_tokens, reduced, renumbered


@dataclass(frozen=True)
class Reduction:
    """A tokenizer with the new ids of its tokens, and the scripts of which it has every character that there was."""

    tokenizer: Tokenizer
    ids: dict[str, int]
    character_scripts: frozenset[str]
    vocabularies: Vocabularies


def reduce_tokenizer(whole: Tokenizer, asked: Trimming, prompts: Sequence[str] = ()) -> Reduction:
    """Return a tokenizer with the tokens that are asked for; ``whole`` neither pads nor truncates.

    The corpora's texts are split as before, also behind each of the prompts.

    Raises:
        ExportError: the tokenizer's kind cannot be reduced, or no token would go.
        ParityError: a text of the corpora is split otherwise.

    """
    spec = json.loads(whole.to_str())
    model = token_model(spec)
    corpus = () if asked.corpus is None else asked.corpus.texts
    texts = [*corpus, *prompts, *(prompt + text for prompt in prompts for text in corpus)]
    scripts = character_scripts(asked)
    kept = model.required() | processor_tokens(spec) | tokens_of_texts(whole, texts)
    kept |= tokens_of_scripts(model, asked.scripts, scripts)
    found = _with_only(whole, spec, model, kept, scripts)
    # Where all tries at a word failed before, one could succeed with fewer tokens: what was tried has to stay.
    if differing := found.vocabularies.differing(texts):
        kept |= tokens_within(model, whole, [texts[position] for position in differing])
        found = _with_only(whole, spec, model, kept, scripts)
        if still := found.vocabularies.differing(texts):
            raise ParityError(
                f"with fewer tokens {texts[still[0]][:60]!r} is split otherwise than before, which is a fault of "
                "monograph: please report it, and leave out --keep-vocab"
            )
    if len(found.ids) >= whole.get_vocab_size(with_added_tokens=True):
        raise ExportError("every token of the vocabulary would be kept: leave out --keep-vocab and --keep-scripts")
    return found


def _with_only(
    whole: Tokenizer, spec: dict[str, Any], model: TokenModel, kept: set[str], scripts: frozenset[str]
) -> Reduction:
    ids = renumbered(model, added_tokens(spec), model.completed(kept))
    part = Tokenizer.from_str(json.dumps(reduced(spec, model, ids)))
    return Reduction(part, ids, scripts, Vocabularies(whole, part, model.unknown))
