"""The texts that are embedded: English, distinct, of about so many tokens each, and mixed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monograph.tokenization import TextTokenizer
from monograph_bench.texts import texts_of_mix

TOKENS = (16, 128, 512)
MIXED = "mixed"
# A call of longer texts has fewer of them: about as many tokens, but at least this share of the texts.
_LEAST_SHARE = 16


@dataclass(frozen=True)
class Workload:
    """Texts of one call; ``tokens`` counts those of all texts, special ones included."""

    name: str
    texts: list[str]
    tokens: int


def make_workloads(bundle: Path, texts: int) -> dict[str, Workload]:
    """Return the workloads of a bundle's tokenizer by name: of about 16, 128 and 512 tokens, and mixed."""
    tokenizer = TextTokenizer(bundle / "tokenizer.json")
    mixed = mixed_texts(texts)
    words = " ".join(mixed[:2000]).split()
    # Of short pieces, which are not cut.
    pieces = [" ".join(words[start : start + 8]) for start in range(0, min(len(words), 4000) - 8, 8)]
    tokens_per_word = (len(tokenizer(pieces).ids) - 2 * len(pieces)) / (8 * len(pieces))
    limit = tokenizer.max_length or max(TOKENS)
    workloads = {}
    for length in dict.fromkeys(min(tokens, limit) for tokens in TOKENS):
        count = max(2, texts // _LEAST_SHARE, texts * TOKENS[0] // length)
        width = max(1, round((length - 3) / tokens_per_word))
        made = [f"{number} " + " ".join(np.roll(words, -number * 7)[:width]) for number in range(count)]
        workloads[str(length)] = Workload(f"{length} tokens", made, len(tokenizer(made).ids))
    workloads[MIXED] = Workload(MIXED, mixed, len(tokenizer(mixed).ids))
    return workloads


def mixed_texts(count: int) -> list[str]:
    """Return English texts of one to twelve sentences."""
    return list(texts_of_mix(MIXED, count, "en"))
