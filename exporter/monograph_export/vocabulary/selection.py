"""Which tokens of a tokenizer a corpus and scripts need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from monograph_export.vocabulary.coverage import CHUNK
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.scripts import Scripts, scripts_of
from monograph_export.vocabulary.token_models import TokenModel

# With a smaller share of a corpus's letters, a script is in it by a name or a quotation: no other character is kept.
MIN_SHARE_OF_LETTERS = 1e-3


def character_scripts(asked: Trimming) -> frozenset[str]:
    """Return the scripts of which every single character is kept: those asked for, and those of each corpus."""
    of_corpora = (scripts_of(corpus.texts, MIN_SHARE_OF_LETTERS) for corpus in asked.corpora)
    return frozenset(asked.scripts).union(*of_corpora)


def tokens_of_scripts(model: TokenModel, whole: Iterable[str], characters: Iterable[str]) -> set[str]:
    """Return the tokens of texts in the scripts ``whole``, and those of single characters in ``characters``."""
    of_any_length, single = Scripts(whole), Scripts(characters)
    chosen = set()
    for token in model.tokens:
        text = model.text_of(token)
        if (whole and of_any_length.has(text)) or (_is_character(text) and single.has(text)):
            chosen.add(token)
    return chosen


def tokens_of_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> set[str]:
    """Return the tokens that texts are split into."""
    ids: set[int] = set()
    for start in range(0, len(texts), CHUNK):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + CHUNK])):
            ids.update(encoding.ids)
    return {token for number in ids if (token := tokenizer.id_to_token(number)) is not None}


def tokens_within(model: TokenModel, tokenizer: Tokenizer, texts: Iterable[str]) -> set[str]:
    """Return every token whose text occurs in a text: with them, nothing in it can be split otherwise."""
    of_text: dict[bytes, list[str]] = {}
    for token in model.tokens:
        of_text.setdefault(model.text_of(token).strip(), []).append(token)
    longest = max(map(len, of_text))
    found: set[str] = set()
    for text in texts:
        normalizer = tokenizer.normalizer
        encoded = (text if normalizer is None else normalizer.normalize_str(text)).encode()
        for start in range(len(encoded)):
            for end in range(start + 1, min(len(encoded), start + longest) + 1):
                found.update(of_text.get(encoded[start:end], ()))
    return found


def _is_character(text: bytes) -> bool:
    try:
        return len(text.decode().strip()) <= 1
    except UnicodeDecodeError:
        return False
