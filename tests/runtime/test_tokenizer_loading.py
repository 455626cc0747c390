"""A tokenizer from its file equals the one that tokenizers itself reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from monograph import tokenization
from monograph.tokenization import read_tokenizer

TEXTS = ["[CLS] A boat, two boats", "ab ##s <new> Zoë", "[PAD][MASK]boat \N{SNOWMAN}", "", "b" * 120]


def word_piece() -> Tokenizer:
    """BERT's parts, ids not in the order of the words, and none of them without use."""
    words = ["[MASK]", "[SEP]", "a", "##b", "boat", "##s", ",", "b", "##bb", "two", "[UNK]", "[PAD]", "[CLS]"]
    tokenizer = Tokenizer(
        models.WordPiece(
            {word: 2 * place for place, word in enumerate(words)},
            unk_token="[UNK]",
            max_input_chars_per_word=50,
            continuing_subword_prefix="##",
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True)])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 24))
    tokenizer.enable_truncation(40)
    return tokenizer


def with_words_behind_the_vocabulary() -> Tokenizer:
    tokenizer = word_piece()
    tokenizer.add_tokens(["<new>", "zoë"])
    return tokenizer


def with_added_words_of_the_vocabulary() -> Tokenizer:
    tokenizer = word_piece()
    tokenizer.add_tokens([AddedToken("boat", single_word=True), AddedToken("##s", normalized=False)])
    return tokenizer


def unigram() -> Tokenizer:
    return Tokenizer(models.Unigram([("<unk>", 0.0), ("boat", -1.0), ("b", -2.0), ("s", -3.0)], 0, False))


def byte_pairs() -> Tokenizer:
    return Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "[UNK]": 3}, [("a", "b")], unk_token="[UNK]"))


def words() -> Tokenizer:
    return Tokenizer(models.WordLevel({"boat": 0, '"model":{"type":"WordPiece"': 1, "[UNK]": 2}, unk_token="[UNK]"))


@pytest.mark.parametrize(
    "make",
    [
        word_piece,
        with_added_words_of_the_vocabulary,
        with_words_behind_the_vocabulary,
        unigram,
        byte_pairs,
        words,
    ],
)
@pytest.mark.parametrize("pretty", [False, True])
def test_a_tokenizer_is_what_its_file_says(make: Callable[[], Tokenizer], pretty: bool, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    make().save(str(path), pretty=pretty)
    loaded, expected = read_tokenizer(path), Tokenizer.from_file(str(path))
    assert loaded.to_str() == expected.to_str()
    assert loaded.get_vocab() == expected.get_vocab()
    assert loaded.get_added_tokens_decoder().keys() == expected.get_added_tokens_decoder().keys()
    for text in TEXTS:
        assert loaded.encode(text).ids == expected.encode(text).ids
        assert loaded.encode(text).tokens == expected.encode(text).tokens


@pytest.mark.parametrize(
    "damage",
    [
        {"vocab": ["not", "a", "table"]},
        {"vocab": {"[UNK]": -1}},
        {"vocab": None},
        {"max_input_chars_per_word": "many"},
        {"continuing_subword_prefix": 1},
        {"unk_token": 1},
    ],
)
def test_what_tokenizers_refuses_is_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads(word_piece().to_str())
    content["model"] |= damage
    path.write_text(json.dumps(content), encoding="utf-8")
    for load in (lambda file: Tokenizer.from_file(str(file)), read_tokenizer):
        with pytest.raises(Exception, match=r"."):
            load(path)


def test_an_unknown_token_that_is_no_word_is_taken_as_tokenizers_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads(word_piece().to_str())
    content["model"]["unk_token"] = "not a word"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_tokenizer(path).to_str() == Tokenizer.from_file(str(path)).to_str()


@pytest.mark.parametrize("pretty", [False, True])
def test_word_piece_does_not_go_the_long_way(pretty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    word_piece().save(str(path), pretty=pretty)
    # Without from_buffer, which reads the vocabulary too.
    monkeypatch.setattr(tokenization, "Tokenizer", SimpleNamespace(from_str=Tokenizer.from_str))
    assert read_tokenizer(path).to_str() == word_piece().to_str()
