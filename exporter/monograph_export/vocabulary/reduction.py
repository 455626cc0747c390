"""A tokenizer reduced to the tokens that are requested: which those are, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from monograph.errors import ExportError, ParityError
from monograph_export.vocabulary.coverage import CHUNK, Vocabularies
from monograph_export.vocabulary.options import VocabularyOptions
from monograph_export.vocabulary.scripts import Scripts, scripts_of
from monograph_export.vocabulary.token_models import TokenModel, token_model
from monograph_export.vocabulary.tokenizer_json import added_tokens, processor_tokens, reduced, renumbered

# With a smaller share of a corpus's letters, a script is in it by a name or a quotation, and only their characters are
# retained.
MIN_SHARE_OF_LETTERS = 1e-3


@dataclass(frozen=True)
class Reduction:
    """A tokenizer with the new ids of its tokens, and the scripts of which it has every character that there was."""

    tokenizer: Tokenizer
    ids: dict[str, int]
    character_scripts: frozenset[str]
    vocabularies: Vocabularies


def reduce_tokenizer(whole: Tokenizer, options: VocabularyOptions, prompts: Sequence[str] = ()) -> Reduction:
    """Return a tokenizer with the requested tokens; ``whole`` neither pads nor truncates.

    The corpora's texts are split as before, also behind each of the prompts.

    Raises:
        ExportError: the tokenizer's kind cannot be reduced, or no token would go.
        ParityError: a text of the corpora is split otherwise.

    """
    spec = json.loads(whole.to_str())
    model = token_model(spec)
    corpus = () if options.corpus is None else options.corpus.texts
    texts = [*corpus, *prompts, *(prompt + text for prompt in prompts for text in corpus)]
    scripts = _character_scripts(options)
    tokens = model.required() | processor_tokens(spec) | _tokens_of_texts(whole, texts)
    tokens |= _tokens_of_scripts(model, options.scripts, scripts)
    reduction = _with_only(whole, spec, model, tokens, scripts)
    # Where all tries at a word failed before, one could succeed with fewer tokens: what was tried has to stay.
    if differing := reduction.vocabularies.differing(texts):
        tokens |= _tokens_within(model, whole, [texts[position] for position in differing])
        reduction = _with_only(whole, spec, model, tokens, scripts)
        if still := reduction.vocabularies.differing(texts):
            raise ParityError(
                f"with fewer tokens {texts[still[0]][:60]!r} is split otherwise than before, which is a fault of "
                "monograph: please report it, and leave out --keep-vocab"
            )
    if len(reduction.ids) >= whole.get_vocab_size(with_added_tokens=True):
        raise ExportError("every token of the vocabulary would be retained: leave out --keep-vocab and --keep-scripts")
    return reduction


def _with_only(
    whole: Tokenizer, spec: dict[str, Any], model: TokenModel, tokens: set[str], scripts: frozenset[str]
) -> Reduction:
    ids = renumbered(model, added_tokens(spec), model.completed(tokens))
    part = Tokenizer.from_str(json.dumps(reduced(spec, model, ids)))
    return Reduction(part, ids, scripts, Vocabularies(whole, part, model.unknown))


def _character_scripts(options: VocabularyOptions) -> frozenset[str]:
    """Return the scripts of which every single character is retained: those requested, and those of each corpus."""
    of_corpora = (scripts_of(corpus.texts, MIN_SHARE_OF_LETTERS) for corpus in options.corpora)
    return frozenset(options.scripts).union(*of_corpora)


def _tokens_of_scripts(model: TokenModel, whole: Iterable[str], characters: Iterable[str]) -> set[str]:
    """Return the tokens of texts in the scripts ``whole``, and those of single characters in ``characters``."""
    of_any_length, single = Scripts(whole), Scripts(characters)
    chosen: set[str] = set()
    for token in model.tokens:
        text = model.text_of(token)
        if (whole and of_any_length.has(text)) or (_is_character(text) and single.has(text)):
            chosen.add(token)
    return chosen


def _tokens_of_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> set[str]:
    """Return the tokens that texts are split into."""
    ids: set[int] = set()
    for start in range(0, len(texts), CHUNK):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + CHUNK])):
            ids.update(encoding.ids)
    return {token for number in ids if (token := tokenizer.id_to_token(number)) is not None}


def _tokens_within(model: TokenModel, tokenizer: Tokenizer, texts: Iterable[str]) -> set[str]:
    """Return every token whose text occurs in a text: with them, nothing in it can be split otherwise."""
    of_text: dict[bytes, list[str]] = {}
    for token in model.tokens:
        of_text.setdefault(model.text_of(token).strip(), []).append(token)
    longest = max(map(len, of_text))
    within: set[str] = set()
    for text in texts:
        normalizer = tokenizer.normalizer
        encoded = (text if normalizer is None else normalizer.normalize_str(text)).encode()
        for start in range(len(encoded)):
            for end in range(start + 1, min(len(encoded), start + longest) + 1):
                within.update(of_text.get(encoded[start:end], ()))
    return within


def _is_character(text: bytes) -> bool:
    try:
        return len(text.decode().strip()) <= 1
    except UnicodeDecodeError:
        return False
