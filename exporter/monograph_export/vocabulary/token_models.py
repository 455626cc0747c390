"""The models of a tokenizer.json whose tokens can be reduced, and what must stay for those that do to be matched.

Of every model holds: where it splits a text into tokens that all stay, and what it tried on the way to them stays too,
the reduced model splits the text alike.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from monograph.errors import ExportError

# SentencePiece's sign for a space.
_SPACE = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class TokenModel(ABC):
    """The "model" object of a tokenizer.json; ``tokens`` are its tokens with their ids."""

    tokens: Mapping[str, int]

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec

    @abstractmethod
    def required(self) -> set[str]:
        """Return the tokens without which the model does not work, whatever the texts.

        Raises:
            ExportError: the model has nothing to put where it knows no token.

        """

    @abstractmethod
    def text_of(self, token: str) -> bytes:
        """Return the UTF-8 text that a token stands for; it may begin and end inside a character."""

    @property
    def unknown(self) -> str | None:
        """The token for what is not known, None where there is none."""
        token: str | None = self.spec.get("unk_token")
        return token

    def completed(self, chosen: set[str]) -> set[str]:
        """Return the tokens with all that the model makes them of."""
        return chosen

    @abstractmethod
    def reduced(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """Return the object with the model's tokens that ``ids`` has, and these new ids."""


class WordPiece(TokenModel):
    """The longest match first: with fewer tokens no longer one is matched in place of one that stays."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self.tokens = spec["vocab"]

    def required(self) -> set[str]:
        """Return the unknown token."""
        return _needed(self.unknown, self.tokens)

    def text_of(self, token: str) -> bytes:
        """Return the text of a token, at the beginning of a word or inside it."""
        return token.removeprefix(self.spec["continuing_subword_prefix"]).encode()

    def reduced(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """Return the object with the tokens that ``ids`` has."""
        return {**self.spec, "vocab": {token: ids[token] for token in self.tokens if token in ids}}


class Unigram(TokenModel):
    """The likeliest split: it stays the likeliest among fewer, as long as an unknown character costs the same."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self.tokens = {token: index for index, (token, _) in enumerate(spec["vocab"])}

    def required(self) -> set[str]:
        """Return the unknown token, bytes, and the least likely token, which sets the score of an unknown character."""
        rarest, _ = min(self.spec["vocab"], key=lambda entry: entry[1])
        if self.spec.get("byte_fallback"):
            return {rarest} | _bytes_and(self.unknown, self.tokens)
        return {rarest} | _needed(self.unknown, self.tokens)

    @property
    def unknown(self) -> str | None:
        """The token for what is not known, which the model has by its place."""
        place = self.spec.get("unk_id")
        return None if place is None else str(self.spec["vocab"][place][0])

    def text_of(self, token: str) -> bytes:
        """Return the text of a token."""
        return token.replace(_SPACE, " ").encode()

    def reduced(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """Return the object with the tokens that ``ids`` has; their place in the list is their id."""
        entries = sorted((entry for entry in self.spec["vocab"] if entry[0] in ids), key=lambda entry: ids[entry[0]])
        return {**self.spec, "vocab": entries, "unk_id": None if self.unknown is None else ids[self.unknown]}


class Bpe(TokenModel):
    """Merges by rank: with every merge that can lead to a token that stays, the same merges are made."""

    def __init__(self, spec: Mapping[str, Any], *, byte_level: bool) -> None:
        super().__init__(spec)
        self.tokens = spec["vocab"]
        self._prefix = spec.get("continuing_subword_prefix") or ""
        self._suffix = spec.get("end_of_word_suffix") or ""
        self._bytes = {character: byte for byte, character in bytes_to_unicode().items()} if byte_level else {}
        self._parts: dict[str, list[tuple[str, str]]] = {}
        for left, right in map(_pair, spec["merges"]):
            self._parts.setdefault(self._merged(left, right), []).append((left, right))

    def required(self) -> set[str]:
        """Return the single bytes, of which everything else can be made, and the unknown token."""
        if self._bytes:
            return {token for token in self.tokens if token in self._bytes or token == self.unknown}
        if self.spec.get("byte_fallback"):
            return _bytes_and(self.unknown, self.tokens)
        return _needed(self.unknown, self.tokens)

    def text_of(self, token: str) -> bytes:
        """Return the text of a token."""
        bare = token.removeprefix(self._prefix).removesuffix(self._suffix)
        if self._bytes and all(character in self._bytes for character in bare):
            return bytes(self._bytes[character] for character in bare)
        return bare.replace(_SPACE, " ").encode()

    def completed(self, chosen: set[str]) -> set[str]:
        """Return the tokens with those that any merge makes them of, down to single characters."""
        complete: set[str] = set()
        waiting = list(chosen)
        while waiting:
            token = waiting.pop()
            if token not in complete:
                complete.add(token)
                waiting.extend(part for pair in self._parts.get(token, ()) for part in pair)
        return complete

    def reduced(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """Return the object with the tokens that ``ids`` has and the merges that lead to them."""
        vocabulary = {token: ids[token] for token in self.tokens if token in ids}
        merges = [
            merge
            for merge in self.spec["merges"]
            if self._merged(*_pair(merge)) in vocabulary and all(part in vocabulary for part in _pair(merge))
        ]
        return {**self.spec, "vocab": vocabulary, "merges": merges}

    def _merged(self, left: str, right: str) -> str:
        return left + right.removeprefix(self._prefix)


def token_model(tokenizer: Mapping[str, Any]) -> TokenModel:
    """Return the model of a tokenizer.json.

    Raises:
        ExportError: its tokens cannot be reduced.

    """
    spec = tokenizer["model"]
    match spec["type"]:
        case "WordPiece":
            return WordPiece(spec)
        case "Unigram":
            return Unigram(spec)
        case "BPE":
            steps = (tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer"))
            return Bpe(spec, byte_level=any(map(_is_byte_level, steps)))
        case other:
            raise ExportError(
                f"the tokenizer's model is {other}, whose vocabulary cannot be reduced (WordPiece, Unigram and BPE can)"
            )


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Return the two tokens of a merge, which older files write as one string."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _is_byte_level(step: Mapping[str, Any] | None) -> bool:
    if step is None:
        return False
    within = (*step.get("normalizers", ()), *step.get("pretokenizers", ()))
    return step["type"] == "ByteLevel" or any(map(_is_byte_level, within))


def _bytes_and(unknown: str | None, tokens: Mapping[str, int]) -> set[str]:
    """Return the tokens of single bytes, written as SentencePiece does, and the unknown token, where there is one."""
    return {token for token in tokens if _BYTE_TOKEN.fullmatch(token) or token == unknown}


def _needed(token: str | None, tokens: Mapping[str, int]) -> set[str]:
    if token is None or token not in tokens:
        raise ExportError(
            "the tokenizer has no token for what it does not know, so texts beyond a smaller vocabulary could not be "
            "embedded: leave the vocabulary whole"
        )
    return {token}
