"""Which file of a checkpoint that cannot be loaded is missing or damaged, as by a download that was cut short."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.foreign_errors import plain_line

_ADVICE = "the checkpoint is incomplete or damaged, so download it again"
# JSON that transformers and Sentence Transformers read; other tools leave theirs beside it.
_READ = ("*config*.json", "*token*.json", "*vocab*.json", "*.index.json")
_WEIGHTS, _SHARDS = ("model*.safetensors", "pytorch_model*.bin"), "model-*-of-*.safetensors"
# What files of torch begin with: those of zip, and older ones of pickle.
_TORCH_FILES = (b"PK", b"\x80")
# Modules with weights in a folder of their own.
_WITH_WEIGHTS = ("Dense", "LayerNorm", "StaticEmbedding")


def find_damage(checkpoint: Checkpoint) -> str | None:
    """Return the first file of a checkpoint that is missing or damaged, and what to do; None where there is none."""
    inside = f"{checkpoint.folder}{os.sep}"
    return next((f"{problem.removeprefix(inside)}: {_ADVICE}" for problem in _problems(checkpoint)), None)


def _problems(checkpoint: Checkpoint) -> Iterator[str]:
    entries = [entry for module in checkpoint.modules for entry in (module, *module.within)]
    folders = [*(entry.folder for entry in entries), checkpoint.folder]
    for folder in dict.fromkeys(folder for folder in folders if folder.is_dir()):
        for pattern in _READ:
            yield from _damaged_json(sorted(folder.glob(pattern)))
        yield from _damaged_weights(folder)
    for entry in entries:
        if entry.name in _WITH_WEIGHTS and not any(any(entry.folder.glob(pattern)) for pattern in _WEIGHTS):
            yield f"{entry.folder} has no weights of its {entry.name}"


def _damaged_json(files: list[Path]) -> Iterator[str]:
    for file in files:
        try:
            whole = isinstance(json.loads(file.read_bytes()), dict)
        except OSError as error:
            yield f"{file} cannot be read ({error.strerror})"
        except (ValueError, RecursionError):
            yield f"{file} is no JSON" if file.stat().st_size else f"{file} is empty"
        else:
            if not whole:
                yield f"{file} must be an object"


def _damaged_weights(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob(_WEIGHTS[0])):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            yield f"{file} cannot be read ({plain_line(error)})"
    for file in sorted(folder.glob(_WEIGHTS[1])):
        if not file.is_file() or not _beginning(file).startswith(_TORCH_FILES):
            yield f"{file} is no file of weights"
    index = folder / "model.safetensors.index.json"
    if any(folder.glob(_SHARDS)) and not index.exists():
        yield f"{index} is missing beside the files that it lists"


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(2)
