"""The tokenizers of the JavaScript package give the ids of the Rust tokenizers."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from monograph_export.probe_texts import probe_sentences
from support import checkpoints
from support.charsmap import nfkc_charsmap
from support.tatoeba import Tatoeba

_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MAX_LENGTH = 24


def _backend(tokenizer: Any) -> Tokenizer:
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def _wordpiece(lowercase: bool) -> Tokenizer:
    return _backend(checkpoints.wordpiece(900, lowercase=lowercase))


def _unigram() -> Tokenizer:
    return _backend(checkpoints.unigram(900))


def _xlm_roberta() -> Tokenizer:
    """Return a Unigram tokenizer with the steps of XLM-R's."""
    tokenizer = _unigram()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(nfkc_charsmap()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return tokenizer


def _byte_level() -> Tokenizer:
    return _backend(checkpoints.byte_level_bpe(900))


def _gpt4() -> Tokenizer:
    """Return a byte-level tokenizer that splits by the pattern of newer models."""
    tokenizer = _byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GPT4), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _byte_fallback() -> Tokenizer:
    """Return a BPE tokenizer of sentencepiece's kind: spaces are marked, and unknown characters are bytes."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, limit_alphabet=200, show_progress=False)
    tokenizer.train_from_iterator(probe_sentences(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


_KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": lambda: _wordpiece(lowercase=False),
    "wordpiece-lowercase": lambda: _wordpiece(lowercase=True),
    "unigram": _unigram,
    "xlm-roberta": _xlm_roberta,
    "byte-level": _byte_level,
    "gpt4": _gpt4,
    "byte-fallback": _byte_fallback,
}
_UNUSUAL = [
    "", " ", "\t\n", "a" * 300, "ΑΣΣΟΣ ΣΑΣ", "İstanbul ẞ", "e\u0301 é \u1ec7 ệ",
    "中文abc 𠀀 ㋿",
    "<s>a</s> [SEP] [MASK]x <mask> y",
    "naïve café’s don't I'LL", "\u200bzero\u200dwidth\ufeff\xad", "👩‍👩‍👧 🇩🇪 ☺️",
    "ﬁ ① Ⅳ ㎏ ﾊﾟ\u3000！", "１２３ ٣٤ ½", "a\r\nb\x00\x07c\x85d",
    "กำลัง नमस्ते ሰላም", "x\u0338\u0327\u0316\u1dfa", "\u0301\u0308", "…—“”", "C++/C# @user #tag 3.14 €5",
]  # fmt: skip


@pytest.fixture(scope="session")
def comparison(package: Path) -> ModuleType:
    """The script that compares ids at full size."""
    path = package / "scripts" / "tokenizer_ids.py"
    specification = importlib.util.spec_from_file_location("tokenizer_ids", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _random_texts(count: int) -> list[str]:
    """Return texts of characters of all kinds, and special tokens."""
    generator = random.Random(0)  # noqa: S311
    codes = [
        *range(0x20, 0x3400),
        *range(0xA000, 0xABFF),
        *range(0xF900, 0xFFFE),
        *range(0x1F300, 0x1FB00),
        *range(0x10000, 0x11FFF),
    ]
    common = [*"aeiou.,' \t\u0301\u0308\u00a0", "<s>", "[MASK]", "<mask>"]
    return [
        "".join(
            chr(generator.choice(codes)) if generator.random() < 0.6 else generator.choice(common)
            for _ in range(generator.randint(1, 24))
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def texts(request: pytest.FixtureRequest) -> list[str]:
    """Unusual and random texts, and some sentences of each language of Tatoeba if that is here."""
    sentences = []
    try:
        tatoeba: Tatoeba = request.getfixturevalue("tatoeba")
        sentences = tatoeba.mixed(2000)
    except pytest.skip.Exception:
        pass
    return [*_UNUSUAL, *_random_texts(3000), *sentences]


@pytest.mark.parametrize("kind", _KINDS)
def test_ids_are_equal(kind: str, texts: list[str], comparison: ModuleType, tmp_path: Path) -> None:
    tokenizer = _KINDS[kind]()
    # Short, so that special tokens have to stay behind what is removed.
    tokenizer.enable_truncation(_MAX_LENGTH)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    inputs: list[Any] = [*texts, *zip(texts[:1500], reversed(texts[-1500:]), strict=True)]
    assert comparison.differing_lines(path, inputs) == []


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
def test_truncation_is_equal(direction: str, strategy: str, comparison: ModuleType, tmp_path: Path) -> None:
    tokenizer = _wordpiece(lowercase=True)
    tokenizer.enable_truncation(10, strategy=strategy, direction=direction)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    long = "the boat " * 20
    if strategy == "longest_first":
        counts = range(0, 14, 2)
        inputs: list[Any] = [("a " * first, "b " * second) for first in counts for second in counts]
        assert comparison.differing_lines(path, [*inputs, long]) == []
    elif strategy == "only_first":
        assert comparison.differing_lines(path, [(long, "a b"), (long, ""), long]) == []
    else:
        assert comparison.differing_lines(path, [("a b", long), ("", long)]) == []
