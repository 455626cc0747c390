"""Texts to token ids with the Rust tokenizers package."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from monograph.errors import BundleError, InputError, MonographError, first_line
from monograph.forks import is_inherited
from monograph.inputs import Input
from monograph.json_files import check_values, read_bounded
from monograph.tokenizer_settings import check_model, check_pieces, check_settings, parse_file, read_settings

# A serialized model begins with its type; within a vocabulary entry these quotes would be escaped.
_WORD_PIECE = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"WordPiece"')
_HAS_NO_PIECES = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"(?:WordPiece|WordLevel|BPE)"')
_T = TypeVar("_T")
_RAISED = (Exception, ValueError, TypeError, OverflowError, UnicodeEncodeError)
# Four times what the largest published ones have, of 262,144 tokens.
_MAX_BYTES = 128 * 2**20
# Half more than these have: three for each merge of two tokens, one for each token.
_MAX_VALUES = 3_000_000
# The process that imported tokenizers, or a fork of it.
_PROCESS = os.getpid()
# Where tokens are cut off a text that is too long.
Side = Literal["left", "right"]
_SETTINGS = ("unk_token", "max_input_chars_per_word", "continuing_subword_prefix")


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of n texts or pairs, end to end; text i is ``ids[starts[i]:starts[i + 1]]``.

    ``ids`` and ``type_ids`` are int64 [total], ``starts`` is int64 [n + 1]. The first ``prompt_length`` tokens of each
    text are those of its prompt, where the model leaves prompts out of its pooling. ``attention``, int64 [total], is 0
    for tokens that no token attends to, None where all are 1; ``in_output``, bool [total], is False for tokens whose
    vector is no part of the output of a model of token vectors, None where all are. ``lengths``, int64 [n], is the
    number of tokens of each text, special ones included.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    prompt_length: int = 0
    attention: NDArray[np.int64] | None = None
    in_output: NDArray[np.bool_] | None = None
    lengths: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        # Not when it is first read: Python 3.11's cached_property locks all instances at once, and a signal handler
        # that calls the model while its thread has the lock would wait for a thread that waits for it.
        object.__setattr__(self, "lengths", self.starts[1:] - self.starts[:-1])

    def text(self, row: int) -> TokenizedTexts:
        """Return one of the texts by itself."""
        if len(self.starts) == 2:
            return self
        place = slice(self.starts[row], self.starts[row + 1])
        return TokenizedTexts(
            self.ids[place],
            self.type_ids[place],
            np.array([0, place.stop - place.start], dtype=np.int64),
            self.prompt_length,
            None if self.attention is None else self.attention[place],
            None if self.in_output is None else self.in_output[place],
        )


def join_texts(parts: Sequence[TokenizedTexts]) -> TokenizedTexts:
    """Return the texts of several of one pipeline, one after the other."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([part.lengths for part in parts])
    # Of one pipeline, either each has a mask, or none.
    attention = [part.attention for part in parts if part.attention is not None]
    in_output = [part.in_output for part in parts if part.in_output is not None]
    return TokenizedTexts(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.type_ids for part in parts]),
        np.concatenate(([0], np.cumsum(lengths))),
        parts[0].prompt_length,
        np.concatenate(attention) if attention else None,
        np.concatenate(in_output) if in_output else None,
    )


@dataclass(frozen=True)
class TextWithOffsets:
    """The tokens of a text, ``ids`` int64 [t], and their characters, ``offsets`` int64 [t, 2], each begin and end.

    ``before`` and ``after`` are the ids of special tokens that the model has around a text.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    before: tuple[int, ...]
    after: tuple[int, ...]


class TextTokenizer:
    """Turns texts into token ids as the checkpoint's own tokenizer does, truncation included."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = read_tokenizer(path)
            self._check_room()
        except (OSError, ValueError) as error:
            raise BundleError(
                path.parent, [f"{path.name} cannot be loaded ({first_line(error)}): export the model again"]
            ) from error
        self._tokenizer.no_padding()
        # What the file says; a user may set a lower limit.
        self._truncation = self._tokenizer.truncation
        # Batches go through a pool of threads, which a forked process does not have where its parent started it.
        self._in_batches = os.getpid() == _PROCESS and not is_inherited("tokenizers")
        self._untruncated: Tokenizer | None = None
        self._other_side: TextTokenizer | None = None

    def _check_room(self) -> None:
        """Raise ``ValueError`` where special tokens alone exceed the maximum length, on which tokenizers panics."""
        for is_pair in (False, True):
            special = self._tokenizer.num_special_tokens_to_add(is_pair)
            if self.max_length is not None and special > self.max_length:
                raise ValueError(f"it adds {special} special tokens, and truncates to {self.max_length}")

    @property
    def max_length(self) -> int | None:
        """The maximum number of tokens of a text, special ones included; None where texts are not truncated."""
        truncation = self._tokenizer.truncation
        return None if truncation is None else int(truncation["max_length"])

    def limit(self, max_length: int | None) -> None:
        """Truncate texts to so many tokens, special ones included, and at most to what the file says; None for that.

        Raises:
            InputError: special tokens alone are more.

        """
        special = max(self._tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True))
        if max_length is not None and special >= max_length:
            raise InputError(
                f"a maximum of {max_length} tokens leaves no room: the tokenizer adds {special} special ones"
            )
        stated = self._truncation
        if max_length is None and stated is None:
            self._tokenizer.no_truncation()
            return
        options = dict(stated or {})
        if max_length is not None:
            options["max_length"] = min(max_length, options.get("max_length", max_length))
        self._tokenizer.enable_truncation(**options)

    @property
    def stated_max_length(self) -> int | None:
        """The limit that the file states, None for none."""
        return None if self._truncation is None else int(self._truncation["max_length"])

    @property
    def without_truncation(self) -> Tokenizer:
        """A copy that does not truncate; made once, which takes as long as opening the tokenizer."""
        if self._untruncated is None:
            copied = Tokenizer.from_str(self._tokenizer.to_str())
            copied.no_truncation()
            self._untruncated = copied
        return self._untruncated

    def cutting(self, side: Side) -> TextTokenizer:
        """Return this tokenizer if it cuts long texts on ``side``, or else a copy that does.

        The copy is made once, which takes as long as opening the tokenizer, and has the limit of that moment.
        """
        truncation = self._tokenizer.truncation
        if truncation is None or truncation["direction"] == side:
            return self
        if self._other_side is None:
            self._other_side = self._cut_on_the_other_side()
        return self._other_side

    def _cut_on_the_other_side(self) -> TextTokenizer:
        copied = copy.copy(self)
        copied._tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        options = dict(self._tokenizer.truncation or {})
        other = "left" if options["direction"] == "right" else "right"
        copied._tokenizer.enable_truncation(**options | {"direction": other})
        return copied

    def token(self, id_: int) -> str:
        """Return the token of an id, "" for one that no token has."""
        return self._tokenizer.id_to_token(id_) or ""

    def __call__(self, texts: Sequence[Input]) -> TokenizedTexts:
        """Tokenize texts or pairs, each by itself and without padding.

        Raises:
            MonographError: the tokenizer needs something that its file lacks, an unknown token for example.

        """
        return _end_to_end(self._encode(texts))

    def with_cuts(self, texts: Sequence[Input]) -> tuple[TokenizedTexts, NDArray[np.bool_]]:
        """Tokenize as a call does, and return with the tokens which texts were cut because they are too long, bool [n].

        Raises:
            MonographError: as a call.

        """
        encodings = self._encode(texts)
        limit = self.max_length
        # Only one that has reached the limit may be longer: what was cut off is copied by the look at it.
        cut = [limit is not None and len(one) >= limit and bool(one.overflowing) for one in encodings]
        return _end_to_end(encodings), np.array(cut, dtype=np.bool_)

    def with_offsets(self, text: str) -> TextWithOffsets:
        """Tokenize a text without special tokens and without truncation, with the characters of each token.

        Raises:
            MonographError: as a call.

        """
        tokenizer = self.without_truncation
        try:
            whole = tokenizer.encode(text, add_special_tokens=False)
            framed = tokenizer.encode(text)
        except BaseException as error:
            if not _is_of_tokenizers(error):
                raise
            raise MonographError(f"the tokenizer cannot run ({first_line(error)}): export the model again") from error
        # The text's own tokens belong to it, the added ones to nothing.
        before = next((place for place, of in enumerate(framed.sequence_ids) if of is not None), len(framed.ids))
        return TextWithOffsets(
            np.array(whole.ids, dtype=np.int64),
            np.array(whole.offsets, dtype=np.int64).reshape(-1, 2),
            tuple(framed.ids[:before]),
            tuple(framed.ids[before + len(whole.ids) :]),
        )

    def _encode(self, texts: Sequence[Input]) -> list[Any]:
        try:
            if self._in_batches:
                # The fast variant leaves out character offsets.
                encodings = self._tokenizer.encode_batch_fast(list(texts))
            else:
                encodings = []
                for text in texts:
                    encodings.append(self._tokenizer.encode(*((text,) if isinstance(text, str) else text)))
        except BaseException as error:
            if not _is_of_tokenizers(error):
                raise
            raise MonographError(f"the tokenizer cannot run ({first_line(error)}): export the model again") from error
        return encodings


def _end_to_end(encodings: list[Any]) -> TokenizedTexts:
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
        OSError: the file cannot be read.
        ValueError: it is too large or damaged, or has a setting that is refused.

    """
    text = read_bounded(path, _MAX_BYTES)
    check_values(text, _MAX_VALUES)
    is_word_piece = _WORD_PIECE.search(text) is not None
    file = parse_file(text) if is_word_piece else read_settings(text)
    check_settings(file)
    tokenizer = _read_word_piece(file) if is_word_piece else None
    if tokenizer is None:
        has_pieces = _HAS_NO_PIECES.search(text) is None
        if has_pieces:
            check_pieces(text)
        tokenizer = _call(Tokenizer.from_buffer, text)
        if not has_pieces and isinstance(tokenizer.model, models.Unigram):
            raise ValueError("its model is of another type than it says")
    # Of the model as it was loaded, for most files are parsed without it.
    check_model(tokenizer.model)
    return tokenizer


def _read_word_piece(file: dict[str, Any]) -> Tokenizer | None:
    """Return the tokenizer of a file's content, or None where it has tokens outside its vocabulary."""
    model = file["model"]
    try:
        vocabulary = model["vocab"]
        # The rest of the file refers to these; one outside the vocabulary would get the next id after it.
        special = {model.get("unk_token"), *(token["content"] for token in file.get("added_tokens", []))}
        if not special <= vocabulary.keys() or not model.keys() >= set(_SETTINGS):
            return None
    except (AttributeError, KeyError, TypeError):
        # Not the form that tokenizers writes: it says what is wrong.
        return None
    rest = {**file, "model": {**model, "vocab": {word: vocabulary[word] for word in special}}}
    tokenizer = _call(Tokenizer.from_str, json.dumps(rest))
    settings = {name: model[name] for name in _SETTINGS}
    tokenizer.model = _call(partial(models.WordPiece, **settings), vocabulary)
    return tokenizer


def _call(function: Callable[[Any], _T], argument: Any) -> _T:
    """Call a function of tokenizers; raise ``ValueError`` where it fails, whatever it raises."""
    try:
        return function(argument)
    except BaseException as error:
        if not _is_of_tokenizers(error):
            raise
        raise ValueError(first_line(error)) from error


def _is_of_tokenizers(error: BaseException) -> bool:
    """Return whether tokenizers raised an error, caught where it was called.

    It raises Exception itself, what pyo3 does for a value of the wrong type, and where Rust panics a class that is no
    Exception. A handler of the caller's signal, which runs during the call, may raise the same: but from a frame below.
    """
    trace = error.__traceback__
    if trace is None or trace.tb_next is not None:
        return False
    return type(error) in _RAISED or type(error).__name__ == "PanicException"
