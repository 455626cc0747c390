"""A checkpoint's tokenizer as Sentence Transformers sets it up, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import ExportError, first_line
from monograph_export.checkpoint.checkpoint import read_optional_object
from monograph_export.checkpoint.max_length import check_room
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG, read_max_length
from monograph_export.checkpoint.rust_tokenizer import TOKENIZER_FILE, limited, vocabulary_size_of, write_tokenizer
from monograph_export.checkpoint.token_rows import check_vocabulary, used_rows

# With these transformers 5 makes the step that adds special tokens, or the one that splits words, anew; tokens that it
# does not find among the added ones it adds.
_REBUILDING = ("add_bos_token", "add_eos_token", "src_lang", "tgt_lang")
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_OTHER_TOKENS = ("additional_special_tokens", "extra_special_tokens")
_PREFIX, _REGEX = "add_prefix_space", "fix_mistral_regex"
_OLD_TOKENS_FILE = "special_tokens_map.json"
# What transformers takes from the config for a BertNormalizer, whatever tokenizer.json says: its name there, and here.
_BERT_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


@dataclass(frozen=True)
class CheckpointTokenizer:
    """A tokenizer, the maximum of tokens of a text, the side at which texts are truncated, and the padding id."""

    tokenizer: Tokenizer
    max_length: int | None
    truncation_side: str
    pad_id: int | None

    def store(self, folder: Path, rows: int | None) -> TokenizerSpec:
        """Write it as tokenizer.json, beside a table of so many rows; None where that is not known.

        Raises:
            ExportError: the tokenizer has no vocabulary, or gives ids that the table has no row for.

        """
        rows = vocabulary_size_of(self.tokenizer) if rows is None else rows
        check_vocabulary(self.tokenizer, rows)
        tokenizer = limited(self.tokenizer, self.max_length, self.truncation_side)
        # The file takes no text without a token, so nobody knows what torch would make of it.
        return write_tokenizer(
            tokenizer,
            folder / TOKENIZER_FILE,
            used_rows(self.tokenizer, rows),
            self.pad_id,
            min_length=int(not tokenizer.encode("").ids),
        )


def read_tokenizer(folder: Path, settings: Mapping[str, Any]) -> CheckpointTokenizer:
    """Return the tokenizer of a transformer's folder with the Transformer module's settings applied.

    Raises:
        ExportError: there is no tokenizer.json, a file cannot be read, or the maximum length is not one.

    """
    file = folder / TOKENIZER_FILE
    if not file.exists():
        raise ExportError(
            f"{folder} has no {TOKENIZER_FILE}: load its tokenizer with transformers' AutoTokenizer and save it there"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise ExportError(f"{file} cannot be read: {first_line(error)}") from error
    config = read_optional_object(folder / _OLD_TOKENS_FILE) | read_optional_object(folder / TOKENIZER_CONFIG)
    _check_same_tokens(tokenizer, config, folder)
    _apply_bert_settings(tokenizer, config)
    tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))
    if settings.get("do_lower_case"):
        _lowercase(tokenizer)
    # Without a setting it is that of the file.
    own_side = str((tokenizer.truncation or {}).get("direction", "right")).lower()
    side = config.get("truncation_side", own_side)
    if side not in ("left", "right"):
        raise ExportError(f"{folder / TOKENIZER_CONFIG}: truncation_side {side!r} is neither 'left' nor 'right'")
    max_length = read_max_length(folder, settings)
    if max_length is not None:
        check_room(max_length, tokenizer.num_special_tokens_to_add(is_pair=False), folder)
    return CheckpointTokenizer(tokenizer, max_length, side, _pad_id(tokenizer, config))


def _check_same_tokens(tokenizer: Tokenizer, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings by which transformers gives other tokens than tokenizer.json does by itself."""
    # The reference runs tokenizer.json as well, so a bundle with other tokens would pass its verification.
    problems = [key for key in _REBUILDING if config.get(key) is not None]
    problems += [_REGEX] if config.get(_REGEX) else []
    if isinstance(prefix := config.get(_PREFIX), bool) and not _agrees(tokenizer, prefix):
        problems.append(f"{_PREFIX} {str(prefix).lower()}")
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    absent = sorted(set(_tokens_of(config)) - added)
    problems += [
        f"the token {token!r}, which {TOKENIZER_FILE} does not have among its added tokens" for token in absent
    ]
    if problems:
        raise ExportError(
            f"{folder / TOKENIZER_CONFIG} or {_OLD_TOKENS_FILE} has {', '.join(problems)}: transformers then gives "
            f"other tokens than {TOKENIZER_FILE}, so export the checkpoint itself"
        )


def _tokens_of(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tokens that a config names, each a string or an object with its properties."""
    values: list[Any] = [config.get(key) for key in _NAMED_TOKENS]
    for key in (*_OTHER_TOKENS, "added_tokens_decoder"):
        several = config.get(key) or ()
        values += several.values() if isinstance(several, dict) else several
    for value in values:
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            yield content


def _agrees(tokenizer: Tokenizer, prefix: bool) -> bool:
    """Tell whether the step that splits words into bytes, where there is one, puts a space in front as stated."""
    step = json.loads(tokenizer.to_str())["pre_tokenizer"] or {}
    steps = step.get("pretokenizers", [step])
    return all(one.get(_PREFIX) == prefix for one in steps if one.get("type") == "ByteLevel")


def _apply_bert_settings(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    if not isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        return
    state = json.loads(tokenizer.to_str())["normalizer"]
    del state["type"]
    stated = {ours: config[theirs] for theirs, ours in _BERT_SETTINGS.items() if theirs in config}
    tokenizer.normalizer = normalizers.BertNormalizer(**{**state, **stated})


def _lowercase(tokenizer: Tokenizer) -> None:
    """Put lower-casing before all else, where it is not there already, as Sentence Transformers does."""
    present = tokenizer.normalizer
    if present is None:
        steps = []
    elif isinstance(present, normalizers.Sequence):
        # Only by their positions: to type checkers it is no iterable.
        steps = [present[position] for position in range(len(present))]
    else:
        steps = [present]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _pad_id(tokenizer: Tokenizer, config: Mapping[str, Any]) -> int | None:
    token = config.get("pad_token")
    # Old configs have the token with its properties.
    content = token.get("content") if isinstance(token, dict) else token
    if isinstance(content, str):
        return tokenizer.token_to_id(content)
    padding = tokenizer.padding
    return None if padding is None else int(padding["pad_id"])
