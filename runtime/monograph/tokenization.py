"""Texts to token ids with the Rust tokenizers package."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from monograph.errors import BundleError, MonographError
from monograph.forks import is_inherited
from monograph.inputs import Input

# A serialized model begins with its type; within a vocabulary entry these quotes would be escaped.
_WORD_PIECE = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"WordPiece"')
# The process that imported tokenizers, or a fork of it.
_PROCESS = os.getpid()
_SETTINGS = ("unk_token", "max_input_chars_per_word", "continuing_subword_prefix")


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of n texts or pairs, end to end; text i is ``ids[starts[i]:starts[i + 1]]``.

    ``ids`` and ``type_ids`` are int64 [total], ``starts`` is int64 [n + 1]. The first ``prompt_length`` tokens of each
    text are those of its prompt, where the model leaves prompts out of its pooling.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    prompt_length: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each text, special ones included, int64 [n]."""
        return np.diff(self.starts)


class TextTokenizer:
    """Turns texts into token ids as the checkpoint's own tokenizer does, truncation included."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = read_tokenizer(path)
        except Exception as error:
            raise BundleError(
                path.parent, [f"{path.name} cannot be loaded ({error}): export the model again"]
            ) from error
        self._tokenizer.no_padding()
        # Batches go through a pool of threads, which a forked process does not have where its parent started it.
        self._in_batches = os.getpid() == _PROCESS and not is_inherited("tokenizers")

    @property
    def max_length(self) -> int | None:
        """The maximum number of tokens of a text, special ones included; None where texts are not truncated."""
        truncation = self._tokenizer.truncation
        return None if truncation is None else int(truncation["max_length"])

    def token(self, id_: int) -> str:
        """Return the token of an id, "" for one that no token has."""
        return self._tokenizer.id_to_token(id_) or ""

    def __call__(self, texts: Sequence[Input]) -> TokenizedTexts:
        """Tokenize texts or pairs, each by itself and without padding.

        Raises:
            MonographError: the tokenizer needs something that its file lacks, an unknown token for example.

        """
        try:
            if self._in_batches:
                # The fast variant leaves out character offsets.
                encodings = self._tokenizer.encode_batch_fast(list(texts))
            else:
                encodings = []
                for text in texts:
                    encodings.append(self._tokenizer.encode(*((text,) if isinstance(text, str) else text)))
        except Exception as error:
            if type(error) is not Exception:
                # Not the class that tokenizers raises: a signal handler's.
                raise
            raise MonographError(f"the tokenizer cannot run ({error}): export the model again") from error
        if len(encodings) == 1:
            # After a run the CPU's caches hold weights, and the cumulative sum below alone takes 40 microseconds.
            one = np.array(encodings[0].ids, dtype=np.int64)
            type_ids = np.array(encodings[0].type_ids, dtype=np.int64)
            return TokenizedTexts(one, type_ids, np.array([0, len(one)], dtype=np.int64))
        starts = np.zeros(len(encodings) + 1, dtype=np.int64)
        np.cumsum([len(encoding) for encoding in encodings], out=starts[1:])
        total = int(starts[-1])
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int64, total)
        type_ids = np.fromiter(chain.from_iterable(encoding.type_ids for encoding in encodings), np.int64, total)
        return TokenizedTexts(ids, type_ids, starts)


def read_tokenizer(path: Path) -> Tokenizer:
    """Return what ``Tokenizer.from_file`` does, with less time and memory for WordPiece.

    tokenizers parses a file into a tree whose memory is never freed. LaBSE's 501,153 words take 0.74 s and 115 MB
    instead of 0.92 s and 154 MB when they come from Python. Unigram and BPE are not faster so (docs/performance.md).

    Raises:
        Exception: what tokenizers and json raise where the file is damaged.

    """
    text = path.read_bytes()
    tokenizer = _read_word_piece(json.loads(text)) if _WORD_PIECE.search(text) else None
    return Tokenizer.from_buffer(text) if tokenizer is None else tokenizer


def _read_word_piece(file: dict[str, Any]) -> Tokenizer | None:
    """Return the tokenizer of a file's content, or None where it has tokens outside its vocabulary."""
    model = file["model"]
    vocabulary = model.get("vocab", {})
    # The rest of the file refers to these; one outside the vocabulary would get the next id after it.
    special = {model.get("unk_token"), *(token["content"] for token in file.get("added_tokens", []))}
    if not special <= vocabulary.keys() or not model.keys() >= set(_SETTINGS):
        return None
    rest = {**file, "model": {**model, "vocab": {word: vocabulary[word] for word in special}}}
    tokenizer = Tokenizer.from_str(json.dumps(rest))
    tokenizer.model = models.WordPiece(vocabulary, **{name: model[name] for name in _SETTINGS})
    return tokenizer
