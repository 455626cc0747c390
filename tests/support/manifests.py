"""Change a bundle's manifest by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply a change to a parsed manifest.json; the measurements, which are bound to what it was, are removed."""
    path = bundle / "manifest.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    (bundle / "measurements.json").unlink(missing_ok=True)


def state_file(bundle: Path, name: str, sha256: str) -> None:
    """State the size of a file that was changed, and a hash."""
    entry = {"bytes": (bundle / name).stat().st_size, "sha256": sha256}
    edit_manifest(bundle, lambda value: value["files"].update({name: entry}))


def replace_tokenizer(bundle: Path, tokenizer: str, output: Path) -> Path:
    """Copy a bundle with another tokenizer.json, for readers that only tokenize: its graph is not for these tokens."""
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(bundle, output)
    (output / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    state_file(output, "tokenizer.json", hashlib.sha256(tokenizer.encode()).hexdigest())
    truncation = json.loads(tokenizer).get("truncation")

    def change(value: dict[str, Any]) -> None:
        value["tokenizer"]["max_length"] = None if truncation is None else truncation["max_length"]
        value["tokenizer"]["vocabulary_size"] = 2**24

    edit_manifest(output, change)
    return output
