"""The C reader's token ids on sentences of all languages; MONOGRAPH_EVERY_LINE=1 takes every different one.

That is 158,078 sentences, English sides included, and also trains Unigram and BPE tokenizers of 20,000 entries on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from conformance.suite import TOKENIZERS, training_texts
from support import c_reader
from support.checkpoints import wordpiece_of
from support.manifests import replace_tokenizer
from support.tatoeba import Tatoeba

pytestmark = c_reader.NEEDED
_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "embedding"
_EVERY_LINE = bool(os.environ.get("MONOGRAPH_EVERY_LINE"))
_STEP = 1 if _EVERY_LINE else 40
# LaBSE's vocabulary is cased, as are those of most multilingual models.
_VOCABULARIES = ("mbert-vocab", "labse-smaller-vocab")


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


@pytest.fixture(scope="module")
def texts(tatoeba: Tatoeba) -> list[str]:
    lines = tatoeba.lines()
    assert len(lines) > 150_000
    assert not any("\0" in line for line in lines)
    return lines[::_STEP]


def _check(tokenizer: Tokenizer, texts: list[str], folder: Path) -> None:
    bundle = replace_tokenizer(_BUNDLE, tokenizer.to_str(), folder / "bundle")
    found = c_reader.token_ids(bundle, texts)
    for text, ids, encoding in zip(texts, found, tokenizer.encode_batch(texts), strict=True):
        assert ids == encoding.ids, text


@pytest.mark.parametrize("kind", _KINDS)
def test_ids_of_trained_tokenizers(kind: str, tatoeba: Tatoeba, texts: list[str], tmp_path: Path) -> None:
    # Those of the suite are too small for all characters of these: they have unknown ones.
    tokenizer = _KINDS[kind](training_texts() if kind in TOKENIZERS else tatoeba.mixed(4000))
    tokenizer.enable_truncation(128)
    _check(tokenizer, texts, tmp_path)


def test_ids_of_minilm(minilm: Path, texts: list[str], tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    _check(tokenizer, texts, tmp_path)


@pytest.mark.parametrize("vocabulary", _VOCABULARIES)
def test_ids_of_published_vocabularies(vocabulary: str, data: Path, texts: list[str], tmp_path: Path) -> None:
    tokenizer: Tokenizer = wordpiece_of(data / vocabulary / "vocab.txt", lowercase=False).backend_tokenizer
    tokenizer.enable_truncation(256)
    _check(tokenizer, texts, tmp_path)


@pytest.mark.skipif(not _EVERY_LINE, reason="training takes a minute: set MONOGRAPH_EVERY_LINE=1")
@pytest.mark.parametrize("kind", ["unigram", "byte-level-bpe"])
def test_ids_of_tokenizers_of_real_size(kind: str, texts: list[str], tmp_path: Path) -> None:
    from support import full_size_bundles

    trained = full_size_bundles.unigram() if kind == "unigram" else full_size_bundles.byte_level_bpe()
    tokenizer: Tokenizer = trained.backend_tokenizer
    tokenizer.enable_truncation(256)
    _check(tokenizer, texts, tmp_path)
