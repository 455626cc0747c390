"""Read the settings of a cross-encoder's folder, and refuse what has no exact graph before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monograph.bundle.manifest import ACTIVATIONS
from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.layout import read_object
from monograph_export.checkpoint.modules import CLASSIFYING_TASK, module_name, transformer_problems
from monograph_export.checkpoint.task import CLASSIFIER, architectures_of

_SETTINGS_FILE = "sentence_bert_config.json"
_ONLY = "only a Transformer that is a classifier (...ForSequenceClassification) is"


def check_layout(folder: Path) -> None:
    """Accept a cross-encoder that is one classifier of transformers.

    Raises:
        ExportError: a file of it cannot be read.
        UnsupportedModuleError: naming each module, and setting, that has no exact graph.

    """
    listing = folder / "modules.json"
    if listing.exists():
        _check_modules(folder, listing)
    found = architectures_of(folder)
    if not any(name.endswith(CLASSIFIER) for name in found):
        raise UnsupportedModuleError(f"{folder}: {', '.join(found) or 'no architecture'} is not exported, {_ONLY}")
    check_activation(folder, _activation_named(folder))


def _check_modules(folder: Path, listing: Path) -> None:
    modules = _read_listing(listing)
    kinds = [str(module.get("type")) for module in modules]
    if [module_name(kind) for kind in kinds] != ["Transformer"]:
        raise UnsupportedModuleError(f"{folder}: a CrossEncoder of {', '.join(kinds)} is not exported, {_ONLY}")
    if modules[0].get("path", "") not in ("", "."):
        raise UnsupportedModuleError(f"{folder}: a CrossEncoder in the folder {modules[0]['path']!r} is not exported")
    settings = read_object(folder / _SETTINGS_FILE) if (folder / _SETTINGS_FILE).exists() else {}
    if problems := transformer_problems(settings, CLASSIFYING_TASK):
        raise UnsupportedModuleError(f"{folder}: {'; '.join(f'module Transformer: {p}' for p in problems)}")


def _read_listing(listing: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(listing.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{listing} cannot be read: {error}") from error
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ExportError(f"{listing} must be a list of modules")
    return value


def _activation_named(folder: Path) -> str | None:
    """Return the class that a checkpoint names as its activation, in the order in which the places are asked."""
    config = read_object(folder / "config.json")
    saved: dict[str, Any] = {}
    if (folder / "modules.json").exists() and (folder / "config_sentence_transformers.json").exists():
        saved = read_object(folder / "config_sentence_transformers.json")
    of_version_4 = config.get("sentence_transformers")
    places = (
        saved.get("activation_fn"),
        of_version_4.get("activation_fn") if isinstance(of_version_4, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    return next((str(place) for place in places if place is not None), None)


def check_activation(name: object, activation: str | None) -> None:
    """Refuse an activation that a runtime does not have; None is the default of sentence-transformers.

    Raises:
        UnsupportedModuleError: naming it.

    """
    # What is not of torch would be replaced by the default, with a warning: other scores than its author's.
    if activation is None or (activation.startswith("torch.") and activation.rpartition(".")[2] in ACTIVATIONS):
        return
    known = " and ".join(f"torch.nn.{known}" for known in ACTIVATIONS)
    raise UnsupportedModuleError(f"{name}: the activation {activation} is not exported, {known} are")
