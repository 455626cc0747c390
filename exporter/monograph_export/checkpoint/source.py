"""What SOURCE of an export may be: a folder, the name of a recipe, a repository of a Hub."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from monograph.errors import ExportError, MonographError
from monograph.hub import HubName, commit_of, download_files, hub_name
from monograph_export.recipes import Recipe, read_recipe, recipe_names

logger = logging.getLogger(__name__)
_LISTING = "modules.json"
# Settings, vocabularies and the model card, which states the licence.
_SETTINGS = ("*.json", "*.txt", "*.model", "README.md")
_SAFETENSORS, _PICKLES = "model*.safetensors", "pytorch_model*.bin"


def recipe_of(source: object, recipe: str | None) -> Recipe | None:
    """Return the recipe that a checkpoint is to be checked by: the one named, or the one that SOURCE names.

    Raises:
        ExportError: there is none of that name, or SOURCE names another.

    """
    named = source if isinstance(source, str) and not os.path.lexists(source) and source in recipe_names() else None
    if named is not None and recipe not in (None, named):
        raise ExportError(f"SOURCE is the recipe {named} and not {recipe}: leave out one of the two")
    chosen = named if recipe is None else recipe
    return None if chosen is None else read_recipe(chosen)


def locate_checkpoint(source: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint, which is downloaded where SOURCE is not a folder.

    A path that exists wins over the name of a recipe. Of a repository come only the files that loading reads.

    Raises:
        ExportError: SOURCE is nothing of all that, or cannot be downloaded.

    """
    if not isinstance(source, (str, os.PathLike)):
        raise ExportError(f"SOURCE must be a str, a path or a SentenceTransformer, got {type(source).__name__}")
    if not isinstance(source, str) or os.path.lexists(source):
        return Path(source)
    name = _repository_of(read_recipe(source)) if source in recipe_names() else hub_name(source)
    if name is None:
        raise ExportError(
            f"{source} is not a folder: give the folder of a checkpoint, ORG/NAME or ORG/NAME@REVISION on a Hub, or a "
            f"recipe ({', '.join(recipe_names())})"
        )
    try:
        return _download(name)
    except MonographError as error:
        raise ExportError(f"there is no folder {source}; as a repository on the Hub: {error}") from error


def _repository_of(recipe: Recipe) -> HubName:
    if recipe.repository is None:
        raise ExportError(
            f"the recipe {recipe.name} names no repository: give the folder of a checkpoint, and --recipe {recipe.name}"
        )
    return HubName(recipe.repository, recipe.revision)


def _download(name: HubName) -> Path:
    commit = commit_of(name)
    logger.info("downloading %s at %s", name.repository, commit)
    snapshot = download_files(name.repository, commit, lambda names: _settings_at_root(name, names))
    folders = _module_folders(snapshot / _LISTING)
    return download_files(name.repository, commit, lambda names: needed_files(names, folders))


def needed_files(names: Collection[str], folders: Collection[str]) -> list[str]:
    """Return the files that loading reads of a repository whose modules lie in ``folders``; "" is its root.

    Weights are taken as safetensors where a folder has them. Exports to other formats and states of a training lie in
    folders of their own or have other names.
    """
    chosen = []
    for folder in {"", *folders}:
        inside = {PurePosixPath(file).name: file for file in names if _folder_of(file) == folder}
        wanted = _matching(inside, _SETTINGS)
        if folder in folders:
            wanted += _matching(inside, [_SAFETENSORS]) or _matching(inside, [_PICKLES])
        chosen += [inside[file] for file in wanted]
    return chosen


def _settings_at_root(name: HubName, names: Collection[str]) -> list[str]:
    if _LISTING not in names and "config.json" not in names:
        raise ExportError(f"the repository {name} has neither {_LISTING} nor config.json: it is not a checkpoint")
    return needed_files(names, ())


def _module_folders(listing: Path) -> set[str]:
    """Return the folders that modules.json names; without it the root is a bare transformer.

    A listing that is malformed is refused later, when the layout is read.
    """
    try:
        return {_normal(module.get("path", "")) for module in json.loads(listing.read_bytes())}
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        return {""}


def _folder_of(file: str) -> str:
    return _normal(str(PurePosixPath(file).parent))


def _normal(folder: str) -> str:
    normal = str(PurePosixPath(folder))
    return "" if normal == "." else normal


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
