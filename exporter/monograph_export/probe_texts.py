"""The texts, or pairs of them, a bundle is verified with: of many languages, oddities, and of every length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.inputs import InputT, Pair, add_prompt
from monograph.tokenization import TextTokenizer
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
    # What normalizers treat differently: a sigma at the end of a word, both spellings of one letter, full width.
    "ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ, Ὀδυσσεύς σοφός",
    "caf\u00e9 and cafe\u0301, \u1100\u1161\u11a8 and \uac01, \u212b and \u00c5",
    "今天，天气很好。「好」、（是）！カタカナ・ｶﾀｶﾅ",
    "  spaces before, within   and behind  ",
    "\n ends in a line break \n",
)
# Special and other added tokens that probes spell: evenly spread, where a tokenizer has more.
_SPECIAL_TOKENS, _ADDED_TOKENS = 64, 32
# So many share a probe, for every probe has a vector in the bundle.
_TOKENS_IN_A_TEXT = 4
# What stands before and behind a token in texts whose tokens alone are compared.
_AROUND = (("", ""), ("boat", "harbour"), ("boat ", " harbour"), ("  ", "  "), ("\n", "\n"), ("boat, ", "."))
# Texts of more tokens are not compared.
_LONGEST_CUT = 1 << 18
# The first text of a pair has one part of so many of its tokens in rotation: a query is shorter than a document.
_PARTS = (3, 2, 5)
# Rotations of the words that are tried for a text of a wanted length.
_ATTEMPTS = 24


def probe_texts(tokenizer: Tokenizer, max_length: int | None, spelled: Sequence[str]) -> list[str]:
    """Return the texts to verify a bundle with; texts are cut at ``max_length`` tokens, special ones included.

    They spell the tokens ``spelled``.
    """
    whole = unlimited(tokenizer)
    return [*short_probe_texts(), *_spelling_texts(spelled), *_texts_of_every_length(whole, max_length)]


def short_probe_texts() -> list[str]:
    """Return those of them that no tokenizer has a part in: sentences and oddities."""
    return [*probe_sentences(), *_ODD_TEXTS]


def probe_pairs(tokenizer: Tokenizer, max_length: int | None, spelled: Sequence[str]) -> list[Pair]:
    """Return the pairs to verify a cross-encoder with; a pair is cut at ``max_length`` tokens with special ones.

    They spell the tokens ``spelled``, in either text.
    """
    texts = short_probe_texts()
    # Each beside the next, and some beside themselves, which a reranker scores otherwise than strangers.
    neighbours = list(zip(texts, [*texts[1:], texts[0]], strict=True))
    same = [(text, text) for text in texts[::4]]
    empty = [("", ""), ("", texts[0]), (texts[0], "")]
    spelling = [
        (text, texts[0]) if number % 2 else (texts[0], text) for number, text in enumerate(_spelling_texts(spelled))
    ]
    return [*neighbours, *same, *empty, *spelling, *_pairs_of_every_length(unlimited(tokenizer), max_length)]


def chosen_tokens(tokenizer: Tokenizer, named: Iterable[str]) -> list[str]:
    """Return the tokens that probes of a tokenizer spell: special ones, ``named`` ones first, and other added ones."""
    added = [token for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    first = list(dict.fromkeys(named))
    special = [token.content for token in added if token.special and token.content not in first]
    others = [token.content for token in added if not token.special and token.content not in first]
    return [*first, *_spread(special, _SPECIAL_TOKENS), *_spread(others, _ADDED_TOKENS)]


def texts_to_tokenize(spelled: Sequence[str], max_length: int | None) -> list[str]:
    """Return texts whose tokens alone are compared: every spelling of each token, and texts of too many tokens.

    They have no vector in a bundle, which would be large with them.
    """
    texts = [before + token + behind for token in spelled for before, behind in _AROUND]
    texts += [change(token) for token in spelled for change in (str.upper, str.lower)]
    words = _words()
    if max_length is not None and max_length <= _LONGEST_CUT:
        texts += [
            " ".join(itertools.islice(itertools.cycle(words), count)) for count in (max_length + 1, 3 * max_length)
        ]
    return texts


def usable_inputs(
    tokenizer: TextTokenizer, specification: TokenizerSpec, inputs: Sequence[InputT], prompt: str = ""
) -> list[InputT]:
    """Return the inputs of which a model has an output, behind a prompt: with a token, and none past its table."""
    tokens = tokenizer([add_prompt(one, prompt) for one in inputs])
    return [
        one
        for one, start, end in zip(inputs, tokens.starts, tokens.starts[1:], strict=False)
        if end - start >= specification.min_length
        and tokens.ids[start:end].max(initial=0) < specification.vocabulary_size
    ]


def _spread(tokens: list[str], count: int) -> list[str]:
    """Return so many of the tokens, the first and the last among them."""
    if len(tokens) <= count:
        return tokens
    return [tokens[position * (len(tokens) - 1) // (count - 1)] for position in range(count)]


def _spelling_texts(tokens: Sequence[str]) -> Iterator[str]:
    """Yield texts that spell tokens within words, between spaces and in other cases."""
    for start in range(0, len(tokens), _TOKENS_IN_A_TEXT):
        parts = [
            f"boat{token}harbour  {token}  {token.swapcase()}." for token in tokens[start : start + _TOKENS_IN_A_TEXT]
        ]
        yield " ".join(parts)


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
    # Over the limit by one token and by many, so that truncation is part of what is verified.
    if max_length is not None and max_length < LONGEST:
        longer = _text_of_length(tokenizer, words, max_length + 1)
        yield from () if longer is None else (longer,)
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
