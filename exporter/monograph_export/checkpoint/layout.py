"""Read a checkpoint folder's modules.json and say whether each module has an exact graph.

Nothing is loaded here, neither weights nor torch: a checkpoint that cannot be exported is refused before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.modules import DENSE, ROUTER, ModelKind, check_config, module_name

# The names under which Sentence Transformers has saved the settings of its Transformer module.
_TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Under the second a Router that was called Asym kept them.
ROUTER_CONFIGS = ("router_config.json", "config.json")
_CONFIGS = {"Transformer": _TRANSFORMER_CONFIGS, "MLMTransformer": _TRANSFORMER_CONFIGS, ROUTER: ROUTER_CONFIGS}


@dataclass(frozen=True)
class ModuleEntry:
    """One line of modules.json: the class's name (without its package) and the module's folder."""

    kind: str
    folder: Path
    config: dict[str, Any]


def read_layout(folder: Path, kind: ModelKind = DENSE) -> list[ModuleEntry]:
    """Return the modules of a checkpoint in order.

    A folder without modules.json is a bare transformer, for which Sentence Transformers adds mean pooling, or SPLADE's
    where a sparse encoder is wanted; the list is then empty.

    Raises:
        ExportError: the folder is not a checkpoint, or a file of it cannot be read.
        UnsupportedModuleError: naming every module and setting that has no exact graph.

    """
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a folder: give the folder of a checkpoint")
    listing = folder / "modules.json"
    if not listing.exists():
        _check_bare(folder)
        return []
    settings = folder / "config_sentence_transformers.json"
    model_type = read_object(settings).get("model_type", kind.model_type) if settings.exists() else kind.model_type
    if model_type != kind.model_type:
        # Loaded as a SentenceTransformer, such a model would lose its modules and get mean pooling instead.
        raise UnsupportedModuleError(f"{folder}: a {model_type} is not exported by this release")
    value = _read_json(listing)
    if not isinstance(value, list) or not value:
        raise ExportError(f"{listing} must be a list of modules")
    refused: list[str] = []
    entries = [_read_entry(folder, item, listing, kind, refused) for item in value]
    if refused:
        raise UnsupportedModuleError(
            f"{folder}: {'; '.join(refused)} (modules with an exact graph: {', '.join(kind.names)})"
        )
    return entries


def _read_entry(
    folder: Path, item: object, listing: Path, kind: ModelKind, refused: list[str], *, within_router: bool = False
) -> ModuleEntry:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise ExportError(f"{listing}: every module needs a type")
    written, path = item["type"], item.get("path", "")
    if not isinstance(path, str):
        raise ExportError(f"{listing}: the path of {written} must be a string")
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{listing}: path {path!r} of {written} leaves the folder")
    name = module_name(written, kind)
    if name is None:
        refused.append(f"module {written} (idx {item.get('idx', '?')})")
        return ModuleEntry(written, place, {})
    config = _config_of(name, place)
    if name == ROUTER and within_router:
        refused.append(f"module {written} within another Router")
    elif name == ROUTER:
        for inner, inner_type in _modules_within(config, listing).items():
            within = {"type": inner_type, "path": str(PurePosixPath(path, inner)), "idx": inner}
            _read_entry(folder, within, listing, kind, refused, within_router=True)
    refused.extend(f"module {written}: {problem}" for problem in check_config(name, config, kind))
    return ModuleEntry(name, place, config)


def _modules_within(router: dict[str, Any], listing: Path) -> dict[str, str]:
    """Return the folder and type of each module of a Router."""
    types = router.get("types")
    if not isinstance(types, dict) or not all(isinstance(kind, str) for kind in types.values()):
        raise ExportError(f"{listing}: a Router lists its modules under types, in router_config.json or config.json")
    return types


def _config_of(name: str, place: Path) -> dict[str, Any]:
    names = _CONFIGS.get(name, ("config.json",))
    for candidate in names:
        if (place / candidate).exists():
            return read_object(place / candidate)
    return {}


def _check_bare(folder: Path) -> None:
    """Accept a folder without modules.json that holds an encoder, as Sentence Transformers does."""
    if not (folder / "config.json").exists():
        raise ExportError(f"{folder} has neither modules.json nor config.json: it is not a checkpoint")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        ExportError: it cannot be read, or is no object.

    """
    value = _read_json(path)
    if not isinstance(value, dict):
        raise ExportError(f"{path} must be an object")
    return value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
