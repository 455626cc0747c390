"""Maps of sentencepiece for the normalizer Precompiled: a trie over UTF-8, behind its size, and the replacements."""

from __future__ import annotations

import importlib
import io
import struct
import unicodedata
from collections.abc import Mapping

# A unit of darts-clone's double array: its label, whether a value follows, and the distance to its children.
_HAS_VALUE, _OFFSET_SHIFT, _IS_VALUE = 1 << 8, 10, 1 << 31
_ROOT: tuple[int, ...] = ()


def nfkc_charsmap() -> bytes:
    """Return a map like sentencepiece's nmt_nfkc: NFKC of most characters, controls removed, and spaces made plain."""
    replacements = {}
    for code in [*range(1, 0x3400), *range(0xF900, 0x10000)]:
        text = chr(code)
        decomposed = unicodedata.normalize("NFD", text)
        normalized = unicodedata.normalize("NFKC", text)
        if unicodedata.category(text) == "Cc":
            replacements[text] = " " if text in "\t\n\f\r" else ""
        elif unicodedata.category(text).startswith("Z") and text != " ":
            replacements[text] = " "
        elif normalized != text:
            replacements[text] = normalized
        if len(decomposed) == 2 and normalized == text and code < 0x1000:
            replacements[decomposed] = text
    return charsmap(replacements)


def sentencepiece_charsmap() -> bytes:
    """Return sentencepiece's own map nmt_nfkc, that of XLM-R; the package ``sentencepiece`` must be installed."""
    model = io.BytesIO()
    importlib.import_module("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter(["a small text to train on"]),
        model_writer=model,
        vocab_size=20,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    trained = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(model.getvalue())
    value: bytes = trained.normalizer_spec.precompiled_charsmap
    return value


def charsmap(replacements: Mapping[str, str]) -> bytes:
    """Return the map of a normalizer that replaces some texts."""
    texts = {text: place for place, text in enumerate(dict.fromkeys(replacements.values()))}
    encoded = [text.encode() + b"\0" for text in texts]
    starts = _starts(encoded)
    values = {tuple(key.encode()): starts[texts[value]] for key, value in replacements.items()}
    trie = _double_array(values)
    return struct.pack("<I", 4 * len(trie)) + struct.pack(f"<{len(trie)}I", *trie) + b"".join(encoded)


def _starts(parts: list[bytes]) -> list[int]:
    starts, end = [], 0
    for part in parts:
        starts.append(end)
        end += len(part)
    return starts


def _double_array(values: Mapping[tuple[int, ...], int]) -> list[int]:
    """Return the units of a trie: the child of a node by a byte is at the node's base XOR the byte."""
    children: dict[tuple[int, ...], set[int]] = {}
    for key in values:
        for length in range(len(key)):
            children.setdefault(key[:length], set()).add(key[length])
    units, used_bases, first_free = {0: 0}, {0}, 1
    pending = [(_ROOT, 0)]
    while pending:
        key, place = pending.pop()
        labels = sorted(children.get(key, ())) + ([0] if key in values else [])
        base = first_free
        while base in used_bases or any(base ^ label in units for label in labels):
            base += 1
        used_bases.add(base)
        units[place] |= (place ^ base) << _OFFSET_SHIFT
        for label in labels:
            units[base ^ label] = label
            if label:
                pending.append(((*key, label), base ^ label))
        if key in values:
            units[place] |= _HAS_VALUE
            units[base] = values[key] | _IS_VALUE
        while first_free in units:
            first_free += 1
    return [units.get(place, 0) for place in range(max(units) + 256)]
