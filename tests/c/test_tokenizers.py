"""The C reader's tokenizers against the Rust ones: every code point, and texts in many languages."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from conformance.suite import QWEN_PATTERN
from support import c_reader
from support.charsmap import nfkc_charsmap, sentencepiece_charsmap
from support.manifests import replace_tokenizer

pytestmark = c_reader.NEEDED
_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "embedding"
_SEED = 20261129
# Of each kind that joins or splits with its neighbours: letters, digits, marks of several classes, Hangul, joiners,
# flags, pictographs, conjuncts, prepended and spacing marks, spaces, punctuation, symbols, unassigned code points.
_INTERESTING = (
    "aZ09 .,'!?-_\t\u00a0\u2003\u3000'\"«»éÉßİıſKÅﬁ①½²٣४Ⅷ"
    "\u0301\u0327\u0345\u0334\u0651\u05b0\u093c\u094d\u0bbe\u0e33\u1161\u11a8\u1100가각힣ᄀ"
    "\u200c\u200d\ufe0f\u200b\ufeff\u00ad🇩🇪👩❤☺🏽क्षമ്ര\u0600\u0903\u1f1e6\U000e0101"
    "日本中\U00020000ｶﾞ゛ー「」ǅǆΣσςΆϊ\u0378\ue000\ufffd\U0010fffd\U0001f1e6𝒜𝟗ﷺ㍿"
)


def _bytes_tokenizer(**parts: Any) -> dict[str, Any]:
    """Return a tokenizer whose ids are the bytes of its pieces, each piece ended by the bytes of two bars."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": "||",
        "fuse_unk": False,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {name: place for place, name in enumerate(names)},
        "merges": [],
    }
    nothing: dict[str, Any] = {
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
    }
    return {"version": "1.0", **nothing, "post_processor": None, "decoder": None, "model": model, **parts}


def _precompiled(charsmap: bytes) -> dict[str, Any]:
    """Return XLM-R's kind of normalizer."""
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    return {"type": "Sequence", "normalizers": [step]}


def _split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def _bert(**settings: Any) -> dict[str, Any]:
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return {"type": "BertNormalizer", **off, **settings}


_NEWER = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NORMALIZERS: dict[str, dict[str, Any]] = {
    "bert-clean": _bert(clean_text=True),
    "bert-chinese": _bert(handle_chinese_chars=True),
    "bert-accents": _bert(strip_accents=True),
    "bert-lowercase": _bert(lowercase=True),
    "bert": _bert(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
    **{name: {"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt")},
    "Strip": {"type": "Strip", "strip_left": True, "strip_right": True},
    "Prepend": {"type": "Prepend", "prepend": "▁"},
    "Replace": {"type": "Replace", "pattern": {"String": "a"}, "content": "bé"},
    "Replace spaces": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
}
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    **{name: {"type": name} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")},
    **{
        f"Punctuation {name}": {"type": "Punctuation", "behavior": name}
        for name in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
    },
    "Digits": {"type": "Digits", "individual_digits": False},
    "Digits individual": {"type": "Digits", "individual_digits": True},
    **{
        f"Metaspace {scheme}": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
        for scheme in ("always", "never", "first")
    },
    "Metaspace whole": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
    "ByteLevel": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "ByteLevel spaced": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "Split Qwen": _split(QWEN_PATTERN),
    "Split newer": _split(_NEWER, "Removed", invert=True),
    "Split words": _split(r"\w+|[^\w\s]", "Isolated"),
    "Split digits": _split(r"\d{2,3}?", "MergedWithPrevious"),
}


def _compare(file: dict[str, Any], texts: list[str], folder: Path) -> None:
    bundle = replace_tokenizer(_BUNDLE, json.dumps(file), folder / "bundle")
    tokenizer = Tokenizer.from_str(json.dumps(file))
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    for text, wanted, found in zip(texts, expected, c_reader.token_ids(bundle, texts), strict=True):
        assert found == wanted, f"{text!r}: {bytes(found)!r} instead of {bytes(wanted)!r}"


def _code_points() -> list[str]:
    """Return texts with the code points of all planes that have anything, 40 in each; of others one in a hundred."""
    codes = [*range(1, 0x20000), *range(0x2F800, 0x2FB00), *range(0xE0000, 0xE0200), *range(0x20000, 0x110000, 101)]
    characters = [chr(code) for code in codes if code != 0x0A and not 0xD800 <= code < 0xE000]
    return ["a".join(characters[start : start + 40]) for start in range(0, len(characters), 40)]


def _mixtures(count: int) -> list[str]:
    """Return texts of characters that combine, many of them in a row, and of random code points."""
    chooser = random.Random(_SEED)  # noqa: S311
    return [
        "".join(
            chooser.choice(_INTERESTING)
            if chooser.random() < 0.9
            else chr(chooser.choice((0x40, 0x900, 0x2D40, 0x1F100)) + chooser.randrange(0x2C0))
            for _ in range(chooser.randint(1, 12))
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", _NORMALIZERS)
def test_normalizers(name: str, tmp_path: Path) -> None:
    _compare(_bytes_tokenizer(normalizer=_NORMALIZERS[name]), _code_points() + _mixtures(10_000), tmp_path)


def test_precompiled_normalizer(tmp_path: Path) -> None:
    file = _bytes_tokenizer(normalizer=_precompiled(nfkc_charsmap()))
    _compare(file, _code_points() + _mixtures(10_000), tmp_path)


@pytest.mark.slow
def test_precompiled_normalizer_of_sentencepiece(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece", reason="sentencepiece has the real map: pip install sentencepiece")
    file = _bytes_tokenizer(normalizer=_precompiled(sentencepiece_charsmap()))
    _compare(file, _code_points() + _mixtures(50_000), tmp_path)


@pytest.mark.parametrize("name", _PRE_TOKENIZERS)
def test_pre_tokenizers(name: str, tmp_path: Path) -> None:
    _compare(_bytes_tokenizer(pre_tokenizer=_PRE_TOKENIZERS[name]), _code_points() + _mixtures(10_000), tmp_path)
