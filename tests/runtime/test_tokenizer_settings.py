"""A tokenizer.json of a stranger: refused where tokenizers would panic, or take long for an ordinary text."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, Embedder, MonographError
from monograph.regex_cost import CostlyPatternError, PatternBudget
from monograph.tokenization import TextTokenizer, read_tokenizer

Replace = Callable[[str, bytes], None]

# GPT-2, GPT-4, o200k, CLIP, and what others have: a match attempt takes time in proportion to the text.
PUBLISHED = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])",
    r"(?:\r\n)+|[\s]+$|^\s+| {2,}|\s++x",
    r"[一-龥぀-ゟ゠-ヿ]+|[^a\]b]|[]a]+",
    # GPT-4 with possessive repetitions; o200k whole.
    r"'(?i:[sdmt]|ll)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "|".join(
        [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]
    ),
    "",
]
COSTLY = [
    r"(a+)+$",
    r"(?:.*)*\d",
    r".*.*[=#]",
    r"(a|ab)+c",
    r"(?:a|b?)*",
    "a?" * 20 + "b",
    r"\w{0,5000}\w{0,5000}x",
    r"(?x) a+ +b",
    # 8,192 ways at each position, of a few characters each and with all of the text behind them.
    ".?" * 13 + r"\b\B",
    "[a-z ]?" * 12 + r"[a-z ]*\b\B",
    r".{0,32}.{0,32}.{0,8}.*\b\B",
    # The rest of the text, read at each position by each of many alternatives.
    "|".join([r".*\b\B"] * 100),
    "|".join([r".*+\b\B"] * 100),
    "|".join([r"(?!.*)"] * 100),
    "|".join([r"(?:(?:[a-z ]{30}){30})\b\B"] * 10),
    ".*(?:" + "|".join([r"a\B"] * 50) + ")",
    r"a{2,}{2,}",
    r"a**",
    r"(?=(a+))b\1",
    r"\g<0>",
    r"(?~abc)",
    r"(?(1)a|b)",
    "a|" * 20_000,
    "(" * 300 + ")" * 300,
    "(",
    "[a",
    "a\\",
    "a)",
]


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_patterns_of_published_tokenizers_pass(pattern: str) -> None:
    PatternBudget().spend(pattern)


@pytest.mark.parametrize("pattern", COSTLY, ids=lambda pattern: pattern[:20])
def test_a_pattern_that_may_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(CostlyPatternError):
        PatternBudget().spend(pattern)


def test_patterns_of_a_tokenizer_count_together() -> None:
    budget = PatternBudget()
    for _ in range(10):
        budget.spend(r".*\b\B")
    with pytest.raises(CostlyPatternError):
        budget.spend("|".join([r".*\b\B"] * 4))


def _normalizer(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _added(content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": 1000, "content": content, **flags}


def _template(*pieces: str, ids: int = 1) -> dict[str, Any]:
    single = [{"Sequence" if piece in "AB" else "SpecialToken": {"id": piece, "type_id": 0}} for piece in pieces]
    tokens = {"[X]": {"id": "[X]", "ids": [2] * ids, "tokens": ["x"] * ids}}
    return {
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}
    }


REFUSED: dict[str, dict[str, Any]] = {
    "a regular expression": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"(\w*)*x"}, "behavior": "Isolated", "invert": False}
    },
    "one that a normalizer has": _normalizer(_replace({"Regex": r".*.*[=#]"}, "")),
    "one that the decoder has": {"decoder": _replace({"Regex": "(a+)+"}, "")},
    "text without end": _normalizer(*[_replace({"String": "a"}, "a" * 50)] * 8),
    "a long text for each character": _normalizer(_replace({"Regex": "a"}, "a" * 1000)),
    "a long text of each by two": _normalizer(_replace({"String": "a"}, "b" * 200), _replace({"String": "b"}, "cc")),
    "long added tokens": {"added_tokens": [_added(letter * 700_000) for letter in "abc"]},
    "very many values": {"x": [[]] * 3_000_000},
    "a long text before each": _normalizer({"type": "Prepend", "prepend": "a" * 1000}),
    "a damaged map": _normalizer({"type": "Precompiled", "precompiled_charsmap": "/////wAA"}),
    "a map of no base64": _normalizer({"type": "Precompiled", "precompiled_charsmap": "é"}),
    "very many steps": _normalizer(*[{"type": "Lowercase"}] * 101),
    "pieces of no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a stride": {"truncation": {"direction": "Right", "max_length": 96, "strategy": "LongestFirst", "stride": 95}},
    "the second text of one": _template("B"),
    "a text twice": _template("A", "A"),
    "more special tokens than fit": _template("A", "[X]", ids=200),
    "very many special tokens": _template("A", "[X]", "[X]", ids=600),
    "steps that are no steps": {"normalizer": ["a"], "post_processor": 5},
    "a model that is none": {"model": 5},
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_panic_or_take_long_are_a_bundle_error(
    name: str, bundle_copy: Path, replace_file: Replace
) -> None:
    file = json.loads((bundle_copy / "tokenizer.json").read_bytes())
    replace_file("tokenizer.json", json.dumps(file | REFUSED[name]).encode())
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be loaded \([^)]"):
        Embedder(bundle_copy, device="cpu")


def _unigram(*pieces: str) -> dict[str, Any]:
    return {"type": "Unigram", "unk_id": 0, "vocab": [[piece, -1.0] for piece in ("<unk>", *pieces)]}


# As writers lay them out, with text that looks like the boundary between pieces.
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
@pytest.mark.parametrize("text", ["a", '["', '\\"', "\\n", "é"])
@pytest.mark.parametrize("others", [0, 500])
def test_a_unigram_model_may_have_short_pieces_only(
    indent: int | None, separators: tuple[str, str], text: str, others: int, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    words = [f"word{number}" for number in range(others)]
    for length, refused in (400, False), (600, True):
        piece = (text * length)[:length] if text != "é" else text * (length // 2)
        model = _unigram(*words, piece, *words[:1])
        path.write_text(json.dumps({"added_tokens": [], "model": model}, indent=indent, separators=separators))
        if refused:
            with pytest.raises(ValueError, match="pieces of more than"):
                read_tokenizer(path)
        else:
            read_tokenizer(path)


def test_a_unigram_model_that_says_it_is_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"x": {"model": {"type": "BPE"}}, "added_tokens": [], "model": _unigram("a" * 4000)}))
    with pytest.raises(ValueError, match=r"of another type|expected"):
        read_tokenizer(path)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"max_input_chars_per_word": 10**9}, "max_input_chars_per_word"),
        ({"continuing_subword_prefix": "#" * 1000}, "continuing_subword_prefix"),
        ({"type": "BPE", "dropout": 0.5, "vocab": {"a": 0}, "merges": []}, "dropout"),
        # Rust panics: the prefix is longer than a token.
        (
            {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"], "continuing_subword_prefix": "##"},
            "cannot be loaded",
        ),
        ({"vocab": {"a": -1}}, "cannot be loaded"),
        ({"vocab": {"a": 2**64}}, "cannot be loaded"),
        ({"vocab": None}, "cannot be loaded"),
    ],
    ids=str,
)
def test_a_model_that_fails_or_takes_long_is_a_bundle_error(
    model: dict[str, Any], reason: str, bundle_copy: Path, replace_file: Replace
) -> None:
    file = json.loads((bundle_copy / "tokenizer.json").read_bytes())
    own = {} if "type" in model else file["model"]
    replace_file("tokenizer.json", json.dumps(file | {"model": own | model}).encode())
    with pytest.raises(BundleError, match=reason):
        Embedder(bundle_copy, device="cpu")


@pytest.mark.parametrize("hidden", ['"pre_tokenizer"', r'"\u0070re_tokenizer"'], ids=["plain", "escaped"])
def test_a_setting_behind_the_model_is_checked_too(hidden: str, tmp_path: Path) -> None:
    split = json.dumps({"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False})
    model = json.dumps({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]})
    path = tmp_path / "tokenizer.json"
    path.write_text(f'{{"version": "1.0", "added_tokens": [], "model": {model}, {hidden}: {split}}}')
    with pytest.raises(ValueError, match="in several ways"):
        read_tokenizer(path)


def test_a_file_of_very_many_values_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b'{"model": {"type": "WordPiece", "vocab": [' + b"0," * 4_000_000 + b"0]}}")
    with pytest.raises(ValueError, match="more than 3,000,000 values"):
        read_tokenizer(path)


def test_a_word_of_a_vocabulary_may_be_named_as_a_setting(tmp_path: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"normalizer": 0, "decoder": 1}, "unk_token": "normalizer"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    assert TextTokenizer(path)(["decoder"]).ids.tolist() == [1]


def _tokenize_on_and_on(tokenizer: TextTokenizer) -> None:
    texts = ["a text of some words"] * 20_000
    for _ in range(100):
        tokenizer(texts)


def test_an_error_of_the_callers_signal_handler_passes_through_the_tokenizer(tiny_bundle: Path) -> None:
    tokenizer = TextTokenizer(tiny_bundle / "tokenizer.json")

    def stop(*_: object) -> None:
        # The very class that tokenizers raises.
        raise Exception("the deadline is over")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(Exception, match="the deadline is over") as caught:
            _tokenize_on_and_on(tokenizer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not isinstance(caught.value, MonographError)
