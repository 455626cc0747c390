"""The transformer of a checkpoint and its tokenizer's files, as software reads them that loads an ONNX file of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monograph.errors import ExportError
from monograph_export.checkpoint.checkpoint import Checkpoint, ModuleEntry, read_optional_object
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG, read_max_length

COPIED = ("*.json", "*.txt", "*.model")
_SKIPPED = ("modules.json", "README.txt", "*.index.json")
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def module_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the modules that modules.json lists, none without that file.

    Raises:
        ExportError: a module is not of Sentence Transformers.

    """
    for entry in checkpoint.modules:
        if entry.name is None:
            raise ExportError(f"module {entry.type} is not of Sentence Transformers: no other software loads it")
    return [str(entry.name) for entry in checkpoint.modules]


def transformer_of(checkpoint: Checkpoint) -> ModuleEntry:
    """Return the first module, which without modules.json is the folder itself."""
    return next(iter(checkpoint.modules), ModuleEntry("Transformer", "Transformer", 0, checkpoint.folder, {}))


def max_length_of(transformer: ModuleEntry) -> int:
    """Return the tokens at which a transformer module truncates a text, special ones included.

    Raises:
        ExportError: a file is malformed, or the files do not state it.

    """
    limit = read_max_length(transformer.folder, transformer.settings)
    if limit is None:
        raise ExportError(f"{transformer.folder} does not state how many tokens the model reads")
    return limit


def write_tokenizer(source: Path, max_length: int, folder: Path, copied: Sequence[str] = COPIED) -> None:
    """Copy what lies beside a transformer's weights, and state ``max_length``, in tokens, as that of the tokenizer.

    Raises:
        ExportError: the tokenizer's settings cannot be read.

    """
    skipped = {path for pattern in _SKIPPED for path in source.glob(pattern)}
    for path in {path for pattern in copied for path in source.glob(pattern)} - skipped:
        shutil.copyfile(path, folder / path.name)
    tokenizer = read_optional_object(folder / TOKENIZER_CONFIG)
    # Where fastembed and light-embed truncate texts; in fastembed a smaller "max_length" would win over it.
    tokenizer.pop("max_length", None)
    # The name that transformers 4 has for it, which 5 reads too.
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(folder / TOKENIZER_CONFIG, tokenizer | {"model_max_length": max_length})
    # Which transformers 5 no longer writes, and light-embed asks for.
    special = folder / "special_tokens_map.json"
    if not special.exists():
        write_json(special, {key: _content(tokenizer[key]) for key in _SPECIAL_TOKENS if tokenizer.get(key)})


def _content(token: str | dict[str, Any]) -> str:
    """Return a special token as text, which is written with its flags or without."""
    return token if isinstance(token, str) else str(token["content"])


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
