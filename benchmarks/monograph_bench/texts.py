"""Texts to measure with: mixes of length made of the project's own sentences, or the user's file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monograph.errors import ExportError, InputError
from monograph.inputs import Input
from monograph_export import compression
from monograph_export.text_files import read_sentences, read_texts

# The number of sentences in a text of a mix: (share of the texts, minimum, maximum).
MIXES: dict[str, tuple[tuple[float, int, int], ...]] = {
    "short": ((1.0, 1, 1),),
    "mixed": ((0.6, 1, 2), (0.3, 2, 4), (0.1, 7, 12)),
    "long": ((1.0, 9, 15),),
}
SENTENCES_FILE = "sentences.txt"
MAX_SENTENCE_CHARACTERS = 200


@dataclass(frozen=True)
class Workload:
    """Texts that are embedded in one go, or pairs that are scored, by the name that the report gives them."""

    name: str
    texts: tuple[Input, ...]


def make_workload(mix: str, count: int, language: str | None) -> Workload:
    """Return a workload of the texts of a mix, as ``texts_of_mix``, by the name of the mix.

    Raises:
        InputError: there is no such mix.

    """
    return Workload(mix, texts_of_mix(mix, count, language))


def texts_of_mix(mix: str, count: int, language: str | None) -> tuple[str, ...]:
    """Return distinct texts of a mix of ``MIXES``, the same at every call, in one language or, with None, in many.

    Systems that compute a repeated text once would be measured by the repetition.

    Raises:
        InputError: there is no such mix.

    """
    if mix not in MIXES:
        raise InputError(f"length mix {mix!r} is unknown: choose from {', '.join(MIXES)}, or give a file of texts")
    every = read_sentences(compression.__name__, SENTENCES_FILE, language)
    # Some are whole paragraphs, in all languages longer than any sentence.
    sentences = [sentence for sentence in every if len(sentence) <= MAX_SENTENCE_CHARACTERS]
    generator = np.random.default_rng(zlib.crc32(mix.encode()))
    parts = MIXES[mix]
    texts: dict[str, None] = {}
    while len(texts) < count:
        _, shortest, longest = parts[generator.choice(len(parts), p=[share for share, _, _ in parts])]
        chosen = generator.choice(len(sentences), generator.integers(shortest, longest + 1), replace=False)
        text = " ".join(sentences[i] for i in chosen)
        # More short texts may be requested than there are sentences; a number is a token or two.
        texts[text if text not in texts else f"{text} {len(texts)}"] = None
    return tuple(texts)


def file_workload(file: Path, limit: int | None) -> Workload:
    """Return the distinct texts of a user's file, at most ``limit``.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has no text, or is named as a mix is.

    """
    if file.name in MIXES:
        raise InputError(
            f"{file} is named as the length mix {file.name}: the report could not tell them apart, rename it"
        )
    try:
        return Workload(file.name, tuple(read_texts(file)[:limit]))
    except ExportError as error:
        raise InputError(str(error)) from error
