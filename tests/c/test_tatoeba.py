"""The C reader's token ids on sentences of all languages; MONOGRAPH_EVERY_LINE=1 takes every sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from conformance.suite import TOKENIZERS, training_texts
from support import c_reader
from support.manifests import replace_tokenizer
from support.tatoeba import Tatoeba

pytestmark = c_reader.NEEDED
_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "embedding"
_STEP = 1 if os.environ.get("MONOGRAPH_EVERY_LINE") else 40


def _word_piece(lowercase: bool) -> Callable[[list[str]], Tokenizer]:
    def train(texts: list[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.add_special_tokens(["[UNK]"])
        trainer = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=["[UNK]"], show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    return train


_KINDS = {"wordpiece": _word_piece(lowercase=True), "wordpiece-cased": _word_piece(lowercase=False), **TOKENIZERS}


@pytest.mark.parametrize("kind", _KINDS)
def test_ids(kind: str, tatoeba: Tatoeba, tmp_path: Path) -> None:
    # Those of the suite are too small for all characters of these: they have unknown ones.
    tokenizer = _KINDS[kind](training_texts() if kind in TOKENIZERS else tatoeba.mixed(4000))
    tokenizer.enable_truncation(128)
    texts = [
        line
        for language in tatoeba.languages()
        for line in tatoeba.sentences(language)[::_STEP]
        if "\0" not in line and "\n" not in line
    ]
    assert len(texts) > 2000
    bundle = replace_tokenizer(_BUNDLE, tokenizer.to_str(), tmp_path / "bundle")
    found = c_reader.token_ids(bundle, texts)
    for text, ids, encoding in zip(texts, found, tokenizer.encode_batch(texts), strict=True):
        assert ids == encoding.ids, text
