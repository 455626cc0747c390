"""A checkpoint's folder, read once: its modules, configs, model card and the hashes of its weights.

Nothing is loaded here, neither weights nor torch: a checkpoint that cannot be exported is refused before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import Source
from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.lfs import check_no_pointer
from monograph_export.checkpoint.modules import ROUTER, ModelKind, module_name, setting_problems

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
_CONFIG_FILE = "config.json"
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
# A Router that was called Asym saved them under the second.
ROUTER_CONFIGS = ("router_config.json", _CONFIG_FILE)
_CONFIGS = {"Transformer": _TRANSFORMER_CONFIGS, "MLMTransformer": _TRANSFORMER_CONFIGS, ROUTER: ROUTER_CONFIGS}
# The heads of bge-m3's kind, beside config.json.
SPARSE_HEAD, COLBERT_HEAD = "sparse_linear.pt", "colbert_linear.pt"
HYBRID_HEADS = (COLBERT_HEAD, SPARSE_HEAD)
# What the libraries load; a folder may hold optimizer states and other exports beside it.
_WEIGHT_PATTERNS = ("model*.safetensors", "pytorch_model*.bin", *HYBRID_HEADS)


@dataclass(frozen=True)
class ModuleEntry:
    """A module that modules.json, or a Router, lists.

    ``type`` is its class as it is written there, ``name`` the class's name, None for one that is not of Sentence
    Transformers. ``within`` are the modules of a Router.
    """

    type: str
    name: str | None
    index: object
    folder: Path
    settings: dict[str, Any]
    within: tuple[ModuleEntry, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder.

    ``modules`` are those of modules.json in order. Without that file it is a transformer alone, for which Sentence
    Transformers adds mean pooling, or SPLADE's for a sparse encoder; ``modules`` is then empty.
    """

    folder: Path
    modules: tuple[ModuleEntry, ...]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The content of config_sentence_transformers.json, empty without it."""
        return read_optional_object(self.folder / SETTINGS_FILE)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json, which transformers reads."""
        return read_object(self.folder / _CONFIG_FILE)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes of transformers that config.json names."""
        return tuple(str(name) for name in self.config.get("architectures") or ())

    @property
    def token_width(self) -> int:
        """The width of a token's vector, which config.json must state."""
        size = self.config.get("hidden_size", self.config.get("dim", self.config.get("d_model")))
        if type(size) is not int or size < 1:
            raise ExportError(
                f"{self.folder / _CONFIG_FILE} does not state the hidden_size, the width of a token's vector"
            )
        return size

    @property
    def hybrid_heads(self) -> tuple[str, ...]:
        """Those of the files of ``HYBRID_HEADS`` that the folder has."""
        return tuple(name for name in HYBRID_HEADS if (self.folder / name).is_file())

    @property
    def first_folder(self) -> Path:
        """The folder of the first module, which has the tokenizer and the encoder's configuration."""
        return self.modules[0].folder if self.modules else self.folder

    @cached_property
    def weight_names(self) -> frozenset[str]:
        """The names of the weights in its safetensors files; none of other files, or of one that cannot be read."""
        return frozenset(name for path in sorted(self.folder.glob("model*.safetensors")) for name in _names_in(path))

    @cached_property
    def source(self) -> Source:
        """What the manifest says of the checkpoint: its name, the license of its model card, hashes of its weights."""
        folder = self.folder.resolve()
        weights = sorted(path for pattern in _WEIGHT_PATTERNS for path in folder.rglob(pattern) if path.is_file())
        name, revision = folder.name, None
        # A Hub's cache has models--ORG--NAME/snapshots/REVISION.
        if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
            name, revision = folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder.name
        hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in weights}
        return Source(name, revision, _license(folder / "README.md"), hashes)

    def check_modules(self, kind: ModelKind) -> None:
        """Refuse what has no exact graph in models of a kind.

        Raises:
            UnsupportedModuleError: naming every module and setting that has none.

        """
        if not self.modules:
            return
        model_type = self.settings.get("model_type", kind.model_type)
        if model_type not in (kind.model_type, *kind.former_types):
            # Loaded as a SentenceTransformer, such a model would lose its modules and get mean pooling instead.
            raise UnsupportedModuleError(f"{self.folder}: a {model_type} is not exported by this release")
        if problems := [problem for entry in self.modules for problem in _problems(entry, kind)]:
            raise UnsupportedModuleError(
                f"{self.folder}: {'; '.join(problems)} (modules with an exact graph: {', '.join(kind.names)})"
            )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's folder.

    Raises:
        ExportError: it is not a checkpoint, or a file of it cannot be read.

    """
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a folder: give the folder of a checkpoint")
    listing = folder / MODULES_FILE
    if not listing.exists():
        if not (folder / _CONFIG_FILE).exists():
            raise ExportError(f"{folder} has neither {MODULES_FILE} nor {_CONFIG_FILE}: it is not a checkpoint")
        return Checkpoint(folder, ())
    value = _read_json(listing)
    if not isinstance(value, list) or not value:
        raise ExportError(f"{listing} must be a list of modules")
    return Checkpoint(folder, tuple(_read_entry(folder, item, listing) for item in value))


def _read_entry(folder: Path, item: object, listing: Path, *, within_router: bool = False) -> ModuleEntry:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise ExportError(f"{listing}: every module needs a type")
    written, path = item["type"], item.get("path", "")
    if not isinstance(path, str):
        raise ExportError(f"{listing}: the path of {written} must be a string")
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{listing}: path {path!r} of {written} leaves the folder")
    name = module_name(written)
    settings = {} if name is None else _settings_of(name, place)
    within: tuple[ModuleEntry, ...] = ()
    if name == ROUTER and not within_router:
        within = tuple(
            _read_entry(folder, {"type": type_, "path": str(PurePosixPath(path, inner)), "idx": inner}, listing,
                        within_router=True)
            for inner, type_ in _types_within(settings, listing).items()
        )  # fmt: skip
    return ModuleEntry(written, name, item.get("idx", "?"), place, settings, within)


def _types_within(router: dict[str, Any], listing: Path) -> dict[str, str]:
    """Return the folder and type of each module of a Router."""
    types = router.get("types")
    if not isinstance(types, dict) or not all(isinstance(type_, str) for type_ in types.values()):
        raise ExportError(f"{listing}: a Router lists its modules under types, in router_config.json or config.json")
    return types


def _settings_of(name: str, place: Path) -> dict[str, Any]:
    files = (place / file for file in _CONFIGS.get(name, (_CONFIG_FILE,)))
    return next((read_object(file) for file in files if file.exists()), {})


def _problems(entry: ModuleEntry, kind: ModelKind, *, within_router: bool = False) -> Iterator[str]:
    if entry.name not in kind.names:
        yield f"module {entry.type} (idx {entry.index})"
    elif entry.name == ROUTER and within_router:
        yield f"module {entry.type} within another Router"
    else:
        for inner in entry.within:
            yield from _problems(inner, kind, within_router=True)
        for problem in setting_problems(str(entry.name), entry.settings, kind):
            yield f"module {entry.type}: {problem}"


def _names_in(path: Path) -> list[str]:
    """Return the names of the tensors of a safetensors file, none where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except (OSError, SafetensorError):
        # Refused when the weights are loaded.
        return []


def _license(card: Path) -> str | None:
    """Return the license of a model card as an SPDX expression, None where it states none.

    What the Hub calls a license and SPDX does not know becomes a LicenseRef, as SPDX wants it.
    """
    if not card.exists():
        return None
    from huggingface_hub import ModelCard
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    from yaml import YAMLError

    try:
        stated = ModelCard.load(card).data.license
    except (ValueError, YAMLError):
        # A card whose YAML head is malformed: the checkpoint is as good without it.
        return None
    if not stated:
        return None
    try:
        return str(canonicalize_license_expression(str(stated)))
    except InvalidLicenseExpression:
        return f"LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', str(stated))}"


def read_optional_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file as ``read_object``, an empty one where there is no such file."""
    return read_object(path) if path.exists() else {}


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
    check_no_pointer(path)
    try:
        value = json.loads(path.read_bytes())
        # Escapes can hold half a character, which no tokenizer takes and no manifest can hold.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
