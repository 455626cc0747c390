"""What SOURCE of an export may be: a folder, the name of a recipe, a repository of a Hub."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from monograph.bundle.sources import report_download
from monograph.errors import ExportError, MonographError
from monograph.hub import HubName, download_files, parse_hub_name, resolve_commit
from monograph.paths import user_path
from monograph.progress import Progress
from monograph_export.checkpoint.checkpoint import HYBRID_HEADS, MODULES_FILE, ROUTER_CONFIGS, Checkpoint
from monograph_export.checkpoint.lfs import check_no_pointer
from monograph_export.recipes import Recipe, read_recipe, recipe_names

logger = logging.getLogger(__name__)
# Settings, vocabularies and the model card, which states the license.
_SETTINGS = ("*.json", "*.txt", "*.model", "README.md")
# Those of them that are not of a checkpoint may lie beside it as a pointer.
_READ = ("*config*", "*tokenizer*", "*token*.json", "*vocab*", "*merges*", "*.model", "modules.json", "idf.json")
_SAFETENSORS, _PICKLES = "model*.safetensors", "pytorch_model*.bin"


def recipe_of(source: object, recipe: str | None) -> Recipe | None:
    """Return the recipe that a checkpoint is checked by: the one given, or the one that SOURCE names.

    Raises:
        ExportError: there is none of that name, or SOURCE names another.

    """
    own_name = source if isinstance(source, str) and not os.path.lexists(source) and source in recipe_names() else None
    if own_name is not None and recipe not in (None, own_name):
        raise ExportError(f"SOURCE is the recipe {own_name} and not {recipe}: leave out one of the two")
    chosen = own_name if recipe is None else recipe
    return None if chosen is None else read_recipe(chosen)


@dataclass(frozen=True)
class _EncoderFile:
    """An ONNX file in place of the encoder's weights: its name in the repository, None where it lies elsewhere."""

    file: str | None


def locate_checkpoint(
    source: str | os.PathLike[str], encoder_file: _EncoderFile | None = None, progress: Progress | None = None
) -> Path:
    """Return the folder of a checkpoint, which is downloaded where SOURCE is not a folder.

    A path that exists wins over the name of a recipe. Of a repository only the files that loading reads are downloaded;
    with an ``encoder_file`` that file in place of the encoder's weights. ``progress`` is that of ``locate_bundle``.

    Raises:
        ExportError: SOURCE is none of these, or cannot be downloaded.

    """
    path = user_path(source)
    if not isinstance(source, str) or os.path.lexists(path):
        return path
    name = _repository_of(read_recipe(source)) if source in recipe_names() else parse_hub_name(source)
    if name is None:
        raise ExportError(
            f"{source} is not a folder: give the folder of a checkpoint, ORG/NAME or ORG/NAME@REVISION on a Hub, or a "
            f"recipe ({', '.join(recipe_names())})"
        )
    try:
        return _download(name, encoder_file, progress)
    except MonographError as error:
        raise ExportError(f"there is no folder {source}; as a repository on the Hub: {error}") from error


def locate_with_encoder(
    source: str | os.PathLike[str], file: str | os.PathLike[str], progress: Progress | None = None
) -> tuple[Path, Path]:
    """Return the folder of a checkpoint and the ONNX file of its encoder.

    The file is a path, or where there is none a path within the checkpoint. Of a repository that file is downloaded,
    with those that begin with its name, and no weights of the encoder. ``progress`` is that of ``locate_bundle``.

    Raises:
        ExportError: as ``locate_checkpoint``; or there is no such file, or one here and another in the checkpoint.

    """
    named = user_path(file)
    inside = None if os.path.lexists(named) else PurePosixPath(file).as_posix()
    folder = locate_checkpoint(source, _EncoderFile(inside), progress)
    there = folder / named
    if inside is None and there.is_file() and not there.samefile(named):
        raise ExportError(f"there is a file {file} here and another in {folder}: give the whole path of the one meant")
    path = named if inside is None else folder / inside
    if not path.is_file():
        raise ExportError(f"there is no file {file}, here or in {folder}: give the encoder's ONNX file")
    return folder, path


def _repository_of(recipe: Recipe) -> HubName:
    if recipe.repository is None:
        raise ExportError(
            f"the recipe {recipe.name} names no repository: give the folder of a checkpoint, and --recipe {recipe.name}"
        )
    return HubName(recipe.repository, recipe.revision)


def _download(name: HubName, encoder_file: _EncoderFile | None, progress: Progress | None) -> Path:
    commit = resolve_commit(name)
    logger.info("downloading %s at %s", name.repository, commit)
    with report_download(name, progress) as on_bytes:
        download = partial(download_files, name.repository, commit, on_bytes=on_bytes)
        snapshot = download(lambda names: _settings_at_root(name, names))
        folders = _module_folders(snapshot / MODULES_FILE)
        if encoder_file is None:
            snapshot = download(lambda names: needed_files(names, folders))
            # Known only now: a Router lists its modules in a file of its own.
            if within := _folders_of_routes(snapshot, folders):
                download(lambda names: needed_files(names, [*folders, *within]))
            return snapshot
        # The first module is the encoder.
        encoder, *_ = folders
        return download(lambda names: needed_files(names, folders, {encoder}) + _graph_files(name, names, encoder_file))


def _graph_files(name: HubName, names: Collection[str], encoder_file: _EncoderFile) -> list[str]:
    """Return the requested ONNX file of a repository, and those of its weights, whose names begin with its name."""
    if encoder_file.file is None:
        return []
    if encoder_file.file not in names:
        graphs = ", ".join(sorted(file for file in names if file.endswith(".onnx"))) or "none"
        raise ExportError(f"the repository {name} has no {encoder_file.file}; ONNX files that it has: {graphs}")
    return [file for file in names if file.startswith(encoder_file.file)]


def needed_files(
    names: Collection[str], folders: Collection[str], weightless: Collection[str] = frozenset()
) -> list[str]:
    """Return the files that loading reads of a repository whose modules lie in ``folders``; "" is its root.

    Weights are taken as safetensors where a folder has them, and not at all of ``weightless`` folders. Exports to other
    formats and states of a training lie in folders of their own or have other names.
    """
    chosen = []
    for folder in {"", *folders}:
        inside = {PurePosixPath(file).name: file for file in names if _folder_of(file) == folder}
        wanted = _matching(inside, _SETTINGS)
        if folder in folders and folder not in weightless:
            wanted += _matching(inside, [_SAFETENSORS]) or _matching(inside, [_PICKLES])
        if folder == "" and not weightless:
            wanted += _matching(inside, HYBRID_HEADS)
        chosen += [inside[file] for file in wanted]
    return chosen


def check_files(checkpoint: Checkpoint, encoder_file: Path | None = None) -> None:
    """Refuse a checkpoint with Git LFS pointers in place of files that loading reads.

    With an ``encoder_file`` that file is read in place of the weights of the first module.

    Raises:
        ExportError: naming the first.

    """
    modules = [entry for module in checkpoint.modules for entry in (module, *module.within)]
    folders = dict.fromkeys(entry.folder for entry in modules) or {checkpoint.folder: None}
    for number, folder in enumerate(dict.fromkeys((*folders, checkpoint.folder))):
        inside = [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
        weightless = {""} if folder not in folders or (encoder_file is not None and number == 0) else set()
        for name in needed_files(inside, {""}, weightless):
            if not name.endswith((".json", ".txt", ".model", ".md")) or _matching([name], _READ):
                check_no_pointer(folder / name)
    if encoder_file is not None:
        # Its weights may lie in files whose names begin with its own.
        for file in sorted(encoder_file.parent.iterdir()):
            if file.name.startswith(encoder_file.name):
                check_no_pointer(file)


def _settings_at_root(name: HubName, names: Collection[str]) -> list[str]:
    if MODULES_FILE not in names and "config.json" not in names:
        raise ExportError(f"the repository {name} has neither {MODULES_FILE} nor config.json: it is not a checkpoint")
    return needed_files(names, ())


def _module_folders(listing: Path) -> list[str]:
    """Return the different folders that modules.json names, in its order; without it the root is a bare transformer.

    A malformed listing is refused later, when the checkpoint is read.
    """
    try:
        modules = json.loads(listing.read_bytes())
        return list(dict.fromkeys(_normal(module.get("path", "")) for module in modules)) or [""]
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        return [""]


def _folders_of_routes(snapshot: Path, folders: Iterable[str]) -> list[str]:
    """Return the folders of the modules within Routers; a malformed config is refused later."""
    within: list[str] = []
    for folder in folders:
        for config in ROUTER_CONFIGS:
            try:
                types = json.loads((snapshot / folder / config).read_bytes())["types"]
                within += [_normal(f"{folder}/{inner}" if folder else inner) for inner in types]
            except (OSError, ValueError, RecursionError, TypeError, KeyError):
                continue
    return within


def _folder_of(file: str) -> str:
    return _normal(str(PurePosixPath(file).parent))


def _normal(folder: str) -> str:
    normal = str(PurePosixPath(folder))
    return "" if normal == "." else normal


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
