"""What a tokenizer.json may say: settings with which tokenizers panics, or takes long for ordinary texts, are refused.

tokenizers itself bounds how deep its file is nested and how often a regular expression backtracks at one position.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

from tokenizers.models import Model

from monograph.regex_cost import CostlyPatternError, PatternBudget

# The time for a word grows with the square of its length; published models have 100.
_MAX_WORD_CHARACTERS = 500
# Normalizers, pre-tokenizers and the like; published models have up to 20.
_MAX_STEPS = 100
# Characters of all added tokens: a million takes 1.5 s and 75 MB. Published models have some ten thousand tokens.
_MAX_ADDED_CHARACTERS = 2_000_000
# Tokens around a text or pair, by a template or a post-processor.
_MAX_TEMPLATE_TOKENS = 1_000
# How many characters one may become by all normalizers (those of sentencepiece make up to 33), and the text that one of
# them inserts.
_MAX_GROWTH = 300
_MAX_INSERTED = 256
_MAX_AFFIX = 64
# Bytes of a piece of a Unigram model: the time for a word grows with its length times the square of this. sentencepiece
# makes pieces of up to 16 characters.
_MAX_PIECE_BYTES = 500
_MODEL = re.compile(rb'"model"\s*:\s*\{')
_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding")
# A key of the file after its model, which tokenizers would take instead of an earlier one. Words of a vocabulary have
# numbers.
_LATER_PART = re.compile(rb'"(?:%b)"\s*:\s*[^\s\d-]' % "|".join(_PARTS).encode())
# An escape of a letter could hide such a key.
_ESCAPED_LETTER = re.compile(rb"\\u00[4567]")


def read_settings(content: bytes) -> dict[str, Any]:
    """Parse a tokenizer.json without its model, which is most of it and stands last.

    Raises:
        ValueError: it is not JSON, or not an object.

    """
    model = _MODEL.search(content)
    if model and not _ESCAPED_LETTER.search(content) and not _LATER_PART.search(content, model.end()):
        try:
            return parse_file(content[: model.start()] + b'"model": {}}')
        except ValueError:
            # The model of something within the file.
            pass
    return parse_file(content)


def parse_file(content: bytes) -> dict[str, Any]:
    """Parse a tokenizer.json whole.

    Raises:
        ValueError: it is not JSON, or not an object.

    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if isinstance(value, dict):
        return value
    raise ValueError("it must be an object")


def check_pieces(content: bytes) -> None:
    """Raise ``ValueError`` if the file of a Unigram model has long pieces; 15 to 26 ms for 250,000.

    A string of JSON holds no line break, and no quote behind a bracket but at its end. Where there is one in every few
    hundred bytes, no piece is longer; only other files are parsed.
    """
    model = _MODEL.search(content)
    place = 0 if model is None else model.start()
    while place + _MAX_PIECE_BYTES < len(content):
        stop = place + _MAX_PIECE_BYTES
        end = content.rfind(b"\n", place + 1, stop)
        if end < 0:
            end = content.rfind(b'["', place + 1, stop)
        if end < 0:
            break
        place = end
    else:
        return
    pieces = _list(_object(parse_file(content).get("model")).get("vocab"))
    if max((len(str(piece[0]).encode(errors="replace")) for piece in map(_list, pieces) if piece), default=0) > (
        _MAX_PIECE_BYTES
    ):
        raise ValueError(f"its model has pieces of more than {_MAX_PIECE_BYTES} bytes")


def check_settings(file: dict[str, Any]) -> None:
    """Check what a parsed tokenizer.json says beside its model; what has another form is left to tokenizers.

    Raises:
        ValueError: saying which setting is refused, and why.

    """
    truncation = _object(file.get("truncation"))
    # Sentence Transformers has none, and of truncation only the first part of a text.
    if truncation.get("stride") not in (None, 0):
        raise ValueError("truncation.stride must be 0")
    if truncation.get("max_length") == 0:
        raise ValueError("truncation.max_length must be at least 1")
    steps = [*_steps(file.get("normalizer"), "normalizers"), *_steps(file.get("pre_tokenizer"), "pretokenizers")]
    steps += _steps(file.get("decoder"), "decoders")
    post = list(_steps(file.get("post_processor"), "processors"))
    if len(steps) + len(post) > _MAX_STEPS:
        raise ValueError(f"it has more than {_MAX_STEPS} normalizers, pre-tokenizers and other steps")
    added = (_object(token).get("content") for token in _list(file.get("added_tokens")))
    if sum(len(content) for content in added if isinstance(content, str)) > _MAX_ADDED_CHARACTERS:
        raise ValueError(f"its added tokens have more than {_MAX_ADDED_CHARACTERS:,} characters")
    budget = PatternBudget()
    for step in steps:
        _check_step(step, budget)
    if math.prod(map(_growth, _steps(file.get("normalizer"), "normalizers"))) > _MAX_GROWTH:
        raise ValueError(f"its normalizers make more than {_MAX_GROWTH:,} characters of one")
    _check_templates([step for step in post if step.get("type") == "TemplateProcessing"])


def check_model(model: Model) -> None:
    """Check the settings of a model of tokenizers; raise ``ValueError`` if one is refused."""
    limit = getattr(model, "max_input_chars_per_word", 0)
    if limit > _MAX_WORD_CHARACTERS:
        raise ValueError(f"max_input_chars_per_word is {limit}, and must be at most {_MAX_WORD_CHARACTERS:,}")
    if getattr(model, "dropout", None):
        raise ValueError("dropout splits texts by chance, and must be null")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(getattr(model, name, None) or "") > _MAX_AFFIX:
            raise ValueError(f"{name} has more than {_MAX_AFFIX} characters")


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _steps(value: object, name: str) -> Iterator[dict[str, Any]]:
    """Yield a normalizer or the like; of a sequence, which has them under ``name``, each."""
    pending = [value]
    while pending:
        step = _object(pending.pop())
        if step.get("type") == "Sequence" or name in step:
            pending.extend(reversed(_list(step.get(name))))
        elif step:
            yield step


def _check_step(step: dict[str, Any], budget: PatternBudget) -> None:
    kind = str(step.get("type"))
    if kind == "FixedLength" and step.get("length") == 0:
        raise ValueError("the length of a FixedLength must be at least 1")
    for name in ("content", "prepend"):
        if isinstance(text := step.get(name), str) and len(text) > _MAX_INSERTED:
            raise ValueError(f"a {kind} inserts {len(text):,} characters")
    pattern = _object(step.get("pattern")).get("Regex")
    if isinstance(pattern, str):
        try:
            budget.spend(pattern)
        except CostlyPatternError as error:
            raise ValueError(f"the regular expression {pattern[:100]!r} is refused: {error}") from error


def _growth(step: dict[str, Any]) -> int:
    """Return how many characters a normalizer may make of one."""
    if step.get("type") == "Precompiled":
        return _longest_replacement(step.get("precompiled_charsmap"))
    content, pattern = step.get("content"), _object(step.get("pattern"))
    if not isinstance(content, str):
        return 1
    if isinstance(string := pattern.get("String"), str) and string:
        return max(1, -(-len(content) // len(string)))
    # A regular expression may match nothing, before every character.
    return len(content) + 1


def _longest_replacement(charsmap: object) -> int:
    """Return the longest text of a map of sentencepiece: a trie behind its size, then texts that end in a zero."""
    if not isinstance(charsmap, str):
        return 1
    data = base64.b64decode(charsmap)
    if not data:
        return 1
    if len(data) < 4 or (size := struct.unpack_from("<I", data)[0]) % 4 or size + 4 > len(data):
        raise ValueError("precompiled_charsmap is damaged")
    return max(1, max(map(len, data[size + 4 :].split(b"\0"))))


def _check_templates(templates: list[dict[str, Any]]) -> None:
    for template in templates:
        special = template.get("special_tokens")
        # A list of them, or an object by their ids.
        tokens = [_object(token) for token in (special.values() if isinstance(special, dict) else _list(special))]
        lengths = {str(token.get("id")): len(_list(token.get("ids"))) for token in tokens}
        for name, sequences in {"single": {"A": 1}, "pair": {"A": 1, "B": 1}}.items():
            pieces = [_object(piece) for piece in _list(template.get(name))]
            texts = [str(_object(piece.get("Sequence")).get("id")) for piece in pieces if "Sequence" in piece]
            names = [str(_object(piece.get("SpecialToken")).get("id")) for piece in pieces if "SpecialToken" in piece]
            if len(texts) != len(set(texts)) or not set(texts) <= sequences.keys():
                raise ValueError(f"the template {name!r} has a text more than once, or one that is not there")
            if sum(lengths.get(name, 1) for name in names) > _MAX_TEMPLATE_TOKENS:
                raise ValueError(f"the template {name!r} has more than {_MAX_TEMPLATE_TOKENS:,} tokens")
