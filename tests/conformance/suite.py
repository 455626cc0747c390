"""Write the suite: good bundles with expected ids and vectors, and hostile ones."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from conformance.hostile import write_hostile
from monograph import Embedder
from support.charsmap import nfkc_charsmap
from support.manifests import edit_manifest, state_file

DATA = Path(__file__).resolve().parents[1] / "data"
# The committed bundles, with what a reader needs beside the task "embedding".
_COMMITTED: dict[str, Sequence[str]] = {
    "embedding": (),
    "embedding-int8": (),
    "embedding-int8-measured": (),
    "embedding-int8-weights": (),
    "embedding-precisions": (),
    "embedding-tokens": ("token_embeddings",),
    # An output after the first, as above.
    "embedding-hybrid": ("token_embeddings",),
    "rerank": ("rerank",),
    "sparse": ("sparse",),
    "sparse-routes": ("sparse", "routes"),
    "multi-vector": ("multi_vector",),
}
_ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# As many as the table of the committed bundle has rows.
_VOCABULARY = 1000
_MAX_LENGTH = 96
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What tokenizers and batches trip over, beside the probes.
_ODD_TEXTS = (
    "", " ", "  two  spaces  ", "tabs\tand\nlines\r\n", "[MASK] <mask> [CLS]", "a <mask>b</s>",
    "don't can't I'LL we've",
    "naïve café CAFÉ İstanbul ı ß ﬁ Ⅷ", "한국어 가각힣", "日本語の文章。", "ภาษาไทย", "हिन्दी क्ष्म", "עִבְרִית", "العَرَبِيَّة",
    "👩‍👩‍👧 🇩🇪🇫🇷 ☺️", "zero\u200bwidth\u200djoin\ufeff", "１２３ ½ x²", "😀" * 40, "x" * 300, "word " * 200,
    "e\u0301\u0327 \u0345\u0301a", "\U000e0101\U0010fffd\ue000", "ｶﾞｷﾞ", "ΟΔΟΣ ὈΔΥΣΣΕΎΣ", "a\u0903b\u0600c", "മലയാളം ക്‍ഷ",
)  # fmt: skip


def write_suite(folder: Path) -> None:
    """Write the whole suite into an empty folder; README.md says what it holds."""
    bundles: dict[str, Sequence[str]] = {}
    for name, features in _COMMITTED.items():
        shutil.copytree(DATA / name, folder / "bundles" / name)
        bundles[name] = features
    for name, make in TOKENIZERS.items():
        _write_with_tokenizer(make(training_texts()), folder / "bundles" / name)
        bundles[name] = ()
    (folder / "expected").mkdir()
    for name, features in bundles.items():
        if not features:
            expected = expect(folder / "bundles" / name)
            (folder / "expected" / f"{name}.json").write_text(json.dumps(expected), encoding="utf-8")
    hostile = write_hostile(DATA / "embedding", folder / "hostile")
    suite = {"bundles": {name: {"features": list(features)} for name, features in bundles.items()}, "hostile": hostile}
    (folder / "suite.json").write_text(json.dumps(suite, indent=1), encoding="utf-8")


def _probe_texts() -> list[str]:
    value: list[str] = json.loads((DATA / "embedding" / "probes.json").read_bytes())["texts"]
    return value


def training_texts() -> list[str]:
    """Return what the tokenizers of the suite are trained on."""
    return [text for text in _probe_texts() if text] * 4


def _unigram(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    return _train_unigram(tokenizer, texts)


def _unigram_precompiled(texts: list[str]) -> Tokenizer:
    """Return a tokenizer of XLM-R's kind, whose normalizer is a map of sentencepiece's kind."""
    tokenizer = Tokenizer(models.Unigram())
    squeeze = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(nfkc_charsmap()), squeeze])
    return _train_unigram(tokenizer, texts)


def _train_unigram(tokenizer: Tokenizer, texts: list[str]) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_VOCABULARY, special_tokens=_ROBERTA_TOKENS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _byte_level_bpe(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _train_bpe(tokenizer, texts)


def _split_bpe(texts: list[str]) -> Tokenizer:
    """Return a tokenizer of Qwen's kind: composed text, a pattern of its own, bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _train_bpe(tokenizer, texts)


def _train_bpe(tokenizer: Tokenizer, texts: list[str]) -> Tokenizer:
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=_ROBERTA_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


# Kinds of tokenizers by the name of their bundle: functions that train one on texts.
TOKENIZERS: dict[str, Callable[[list[str]], Tokenizer]] = {
    "unigram": _unigram,
    "unigram-precompiled": _unigram_precompiled,
    "byte-level-bpe": _byte_level_bpe,
    "split-bpe": _split_bpe,
}


def _write_with_tokenizer(tokenizer: Tokenizer, bundle: Path) -> None:
    """Write the committed embedding bundle with another tokenizer, and with the probes that follow from it."""
    shutil.copytree(DATA / "embedding", bundle)
    tokenizer.enable_truncation(_MAX_LENGTH)
    tokenizer.save(str(bundle / "tokenizer.json"))
    _restate(bundle, "tokenizer.json")
    size = tokenizer.get_vocab_size()
    edit_manifest(
        bundle, lambda value: value["tokenizer"].update(vocabulary_size=size, pad_id=1, max_length=_MAX_LENGTH)
    )
    texts = _probe_texts()
    with Embedder(bundle, device="cpu", threads=1) as model:
        vectors = np.stack([model.encode(text, prompt="") for text in texts])
    probes = {
        "texts": texts,
        "token_counts": [len(tokenizer.encode(text).ids) for text in texts],
        "vectors": {
            "dtype": "float32 little-endian",
            "shape": list(vectors.shape),
            "base64": base64.b64encode(vectors.astype("<f4").tobytes()).decode(),
        },
    }
    (bundle / "probes.json").write_text(json.dumps(probes, ensure_ascii=False), encoding="utf-8")
    _restate(bundle, "probes.json")


def _restate(bundle: Path, name: str) -> None:
    state_file(bundle, name, hashlib.sha256((bundle / name).read_bytes()).hexdigest())


def expected_of(suite: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each bundle of a written suite that has expected vectors, with these."""
    for file in sorted((suite / "expected").glob("*.json")):
        yield suite / "bundles" / file.stem, json.loads(file.read_bytes())


def expect(bundle: Path, *, odd: bool = True, step: int = 1, first: int = 0) -> dict[str, Any]:
    """Return what is expected of every ``step``-th probe from ``first`` on, and ``odd`` texts: ids and vectors.

    The ids are by tokenizers, the vectors by ONNX Runtime on this machine, each text alone.
    """
    probes: list[str] = json.loads((bundle / "probes.json").read_bytes())["texts"]
    texts = [text for text in (*(_ODD_TEXTS if odd else ()), *probes[first::step]) if "\0" not in text]
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    tokenizer = Tokenizer.from_file(str(bundle / manifest["tokenizer"]["file"]))
    tokenizer.no_padding()
    with Embedder(bundle, device="cpu", threads=1) as model:
        vectors = [model.encode(text, prompt="").tolist() for text in texts]
    return {
        "precision": manifest["graphs"][0]["precision"],
        "texts": texts,
        "ids": [encoding.ids for encoding in tokenizer.encode_batch(texts)],
        "vectors": vectors,
    }
