"""The texts, or pairs of them, a bundle is verified with: of many languages, oddities, and of every length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tokenizers import Tokenizer

from monograph.inputs import Pair
from monograph_export.checkpoint.rust_tokenizer import unlimited
from monograph_export.text_files import read_sentences

# Every length up to here has a probe of its own: engines have been seen to be wrong at one length only.
EVERY_LENGTH_TO = 130
# Above it, powers of two and their neighbours, where kernels change, and lengths between.
SAMPLED_LENGTHS = (160, 191, 192, 255, 256, 257, 320, 384, 511, 512, 513, 768, 1000, 1023, 1024, 1025, 1536, 2047, 2048)
LONGEST = 2048
_ODD_TEXTS = (
    "",
    " ",
    "a",
    "?!",
    "SHOUTED IN CAPITALS, WITH ÀÉÎÕÜ AND ß",
    "mixed CaSe and 1,234.56 numbers 0x7f",
    "tabs\tand\nline breaks\r\nand\u00a0other\u2003spaces",
    "e\u0301 o\u0308 combining marks, \ufb01 ligature, \u0130 dotted",
    "👩‍👩‍👧 family, 🏳️‍🌈 flag, 👍🏽 thumb",
    "[MASK] [SEP] <s> </s> <unk> written out",
    "palochka: Ӏ ӏ I l 1 |",
    "averyveryverylongwordwithoutanyspaces" * 8,
    "\u200bzero\u200dwidth\ufeff and a \u0007 bell",
)
# The first text of a pair has one part of so many of its tokens in rotation: a query is shorter than a document.
_PARTS = (3, 2, 5)
# Rotations of the words that are tried for a text of a wanted length.
_ATTEMPTS = 24


def probe_texts(tokenizer: Tokenizer, max_length: int | None) -> list[str]:
    """Return the texts to verify a bundle with; texts are cut at ``max_length`` tokens, special ones included."""
    return [*short_probe_texts(), *_texts_of_every_length(unlimited(tokenizer), max_length)]


def short_probe_texts() -> list[str]:
    """Return those of them that no tokenizer has a part in: sentences and oddities."""
    return [*probe_sentences(), *_ODD_TEXTS]


def probe_pairs(tokenizer: Tokenizer, max_length: int | None) -> list[Pair]:
    """Return the pairs to verify a cross-encoder with; a pair is cut at ``max_length`` tokens with special ones."""
    texts = short_probe_texts()
    # Each beside the next, and some beside themselves, which a reranker scores otherwise than strangers.
    neighbours = list(zip(texts, [*texts[1:], texts[0]], strict=True))
    same = [(text, text) for text in texts[::4]]
    empty = [("", ""), ("", texts[0]), (texts[0], "")]
    return [*neighbours, *same, *empty, *_pairs_of_every_length(unlimited(tokenizer), max_length)]


def _pairs_of_every_length(tokenizer: Tokenizer, max_length: int | None) -> Iterator[Pair]:
    words = _words()
    special, special_of_pair = len(tokenizer.encode("").ids), len(tokenizer.encode("", "").ids)
    for length in _wanted_lengths(max_length):
        inner = length - special_of_pair
        first = inner // _PARTS[length % len(_PARTS)]
        if inner < 1:
            continue
        # Without a token a text is empty.
        query = _text_of_length(tokenizer, words, first + special) if first else ""
        document = _text_of_length(tokenizer, words, inner - first + special)
        if query is not None and document is not None and len(tokenizer.encode(query, document).ids) == length:
            yield query, document
    if max_length is None or max_length > LONGEST:
        return
    # Over the limit, so that truncation, which takes from the longer text first, is part of what is verified.
    long, short = _long_text(words, max_length), " ".join(words[:5])
    yield from ((long, short), (short, long), (long, long))


def probe_sentences() -> list[str]:
    """Return the sentences of many languages that every bundle is probed with."""
    return read_sentences(__package__, "probe_sentences.txt")


def _texts_of_every_length(tokenizer: Tokenizer, max_length: int | None) -> Iterator[str]:
    words = _words()
    for length in _wanted_lengths(max_length):
        text = _text_of_length(tokenizer, words, length)
        if text is not None:
            yield text
    # Over the limit, so that truncation is part of what is verified.
    yield _long_text(words, max_length)


def _words() -> list[str]:
    return [word for sentence in probe_sentences() for word in sentence.split()]


def _wanted_lengths(max_length: int | None) -> list[int]:
    limit = min(max_length or LONGEST, LONGEST)
    wanted = {*range(1, EVERY_LENGTH_TO + 1), *SAMPLED_LENGTHS, limit - 1, limit}
    return sorted(length for length in wanted if length <= limit)


def _long_text(words: list[str], max_length: int | None) -> str:
    """Return a text of more tokens than are retained."""
    return " ".join(itertools.islice(itertools.cycle(words), min(max_length or LONGEST, LONGEST) + 50))


def _text_of_length(tokenizer: Tokenizer, words: list[str], length: int) -> str | None:
    """Return a text of exactly ``length`` tokens, special ones included; None where there is none."""
    special = len(tokenizer.encode("").ids)
    inner = length - special
    if inner < 1:
        return None
    for attempt in range(_ATTEMPTS):
        start = (length * 7 + attempt * 11) % len(words)
        long = " ".join(words[(start + i) % len(words)] for i in range(inner))
        offsets = tokenizer.encode(long, add_special_tokens=False).offsets
        if len(offsets) < inner:
            continue
        # Cut behind the last token wanted; within a word the rest may be tokenized otherwise, so count again.
        text = long[: offsets[inner - 1][1]]
        if len(tokenizer.encode(text).ids) == length:
            return text
    return None
