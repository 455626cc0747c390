"""The texts a bundle is verified with, and the vectors torch gives for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from monograph.bundle import Probes
from monograph.errors import ExportError, first_line
from monograph_export.checkpoint.rust_tokenizer import max_length_of, token_ids, tokenizer_of, unlimited
from monograph_export.graph.compose import pools_without_prompt
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
# Rotations of the words that are tried for a text of a wanted length.
_ATTEMPTS = 24


# Put before texts of models that leave prompts out of their pooling and bring none.
_PROMPT = "Represent the sentence: "


def make_probes(model: SentenceTransformer, route: str | None) -> list[Probes]:
    """Return texts of many languages, oddities and lengths with the reference for each.

    The reference is the model itself, each text alone: float32 [n, d], before any truncation of dimensions. A model
    that leaves prompts out of its pooling has a second set, with a prompt.

    Raises:
        ExportError: torch cannot run the model, or gives vectors that are not finite.

    """
    sentences = [*probe_sentences(), *_ODD_TEXTS]
    sets = [_probes(model, route, "", [*sentences, *_texts_of_every_length(tokenizer_of(model))])]
    if pools_without_prompt(model):
        prompt = next(filter(None, model.prompts.values()), _PROMPT)
        sets.append(_probes(model, route, prompt, sentences))
    return sets


def _probes(model: SentenceTransformer, route: str | None, prompt: str, texts: list[str]) -> Probes:
    vectors = reference_vectors(model, texts, prompt=prompt)
    check_finite(vectors)
    counts = tuple(len(token_ids(model, prompt + text)) for text in texts)
    return Probes(tuple(texts), counts, vectors, route, prompt)


def check_finite(vectors: NDArray[np.float32]) -> None:
    """Refuse reference vectors, float32 [n, d], that are not numbers.

    Raises:
        ExportError: one is not finite.

    """
    if not np.isfinite(vectors).all():
        raise ExportError(
            "torch itself gives vectors that are not finite: the checkpoint is damaged, or with --precision fp16 its "
            "values pass what float16 holds"
        )


def reference_vectors(
    model: SentenceTransformer, texts: list[str], batch_size: int = 1, prompt: str = ""
) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for each text, alone or in padded batches, float32 [n, d].

    The model's own default prompt is not added.
    """
    with torch.inference_mode(), model.truncate_embeddings(None):
        try:
            vectors = model.encode(texts, prompt=prompt, batch_size=batch_size, show_progress_bar=False)
        except Exception as error:
            raise ExportError(
                f"torch cannot run the model on texts of up to its maximum length: {first_line(error)}"
            ) from error
    return np.asarray(vectors, dtype=np.float32)


def probe_sentences() -> list[str]:
    """Return the sentences of many languages that every bundle is probed with."""
    return read_sentences(__package__, "probe_sentences.txt")


def _texts_of_every_length(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield a text of every length that a tokenizer keeps, and one that it cuts."""
    limit = min(max_length_of(tokenizer) or LONGEST, LONGEST)
    tokenizer = unlimited(tokenizer)
    wanted = {*range(1, EVERY_LENGTH_TO + 1), *SAMPLED_LENGTHS, limit - 1, limit}
    words = [word for sentence in probe_sentences() for word in sentence.split()]
    for length in sorted(length for length in wanted if length <= limit):
        text = _text_of_length(tokenizer, words, length)
        if text is not None:
            yield text
    # Over the limit, so that truncation is part of what is verified.
    yield " ".join(itertools.islice(itertools.cycle(words), limit + 50))


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
