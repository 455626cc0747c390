"""What a checkpoint's modules do, so that a peer which knows only some of them is refused before it is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph.errors import MonographError

_LIBRARY = "sentence_transformers."
TRANSFORMER_SETTINGS = "sentence_bert_config.json"
# A pooling mode, and the key that was true for it before modes were listed; several are put together in this order.
OLD_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class CheckpointError(MonographError):
    """A checkpoint cannot be read, or cannot be loaded by a peer; the message says why."""


@dataclass(frozen=True)
class Module:
    """A module of Sentence Transformers: the class's name, its folder and its settings as they are saved."""

    kind: str
    folder: Path
    settings: dict[str, Any]


@dataclass(frozen=True)
class Modules:
    """The modules of a checkpoint in order, without those that do nothing.

    ``poolings`` are the modes whose vectors are put side by side; ``max_length`` is in tokens, with the special ones;
    ``lowercase`` says that texts are lower-cased outside the tokenizer.
    """

    entries: tuple[Module, ...]
    poolings: tuple[str, ...]
    dimension: int
    normalized: bool
    max_length: int
    lowercase: bool

    @property
    def transformer(self) -> Path:
        """The folder of the transformer and its tokenizer."""
        return self.entries[0].folder

    def beyond_pooling(self) -> list[str]:
        """Return what is done to vectors that is neither the encoder, nor pooling, nor normalization after it."""
        kinds = [entry.kind for entry in self.entries]
        others = [kind for kind in kinds[1:] if kind not in ("Pooling", "Normalize")]
        return others + (["lower-casing outside the tokenizer"] if self.lowercase else [])


def read_modules(checkpoint: Path) -> Modules:
    """Read the modules of a checkpoint folder, in the old spelling of its files or the new one.

    A folder without modules.json is a bare transformer, for which Sentence Transformers adds mean pooling.

    Raises:
        CheckpointError: a file is missing or malformed, or a module is not of Sentence Transformers.

    """
    listing = checkpoint / "modules.json"
    entries = _entries(checkpoint, listing) if listing.exists() else _bare(checkpoint)
    kinds = [entry.kind for entry in entries]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") != 1:
        raise CheckpointError(
            f"{listing} lists {', '.join(kinds)}: peers load a Transformer with one Pooling behind it"
        )
    pooling = entries[1].settings
    settings = entries[0].settings
    # Dropout does nothing in inference.
    entries = [entry for entry in entries if entry.kind != "Dropout"]
    return Modules(
        entries=tuple(entries),
        poolings=_poolings(pooling),
        dimension=int(pooling.get("embedding_dimension", pooling.get("word_embedding_dimension", 0))),
        normalized="Normalize" in kinds,
        max_length=max_length_of(entries[0]),
        lowercase=bool(settings.get("do_lower_case")) and not _tokenizer(entries[0]).get("do_lower_case"),
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object, an empty one where there is no such file.

    Raises:
        CheckpointError: it cannot be read, or is no object.

    """
    value = _read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must be an object")
    return value


def read_listing(listing: Path) -> list[dict[str, Any]]:
    """Return the entries of a modules.json, each with a type.

    Raises:
        CheckpointError: it cannot be read, or is something else.

    """
    items = _read_json(listing)
    if not isinstance(items, list) or not all(isinstance(item, dict) and "type" in item for item in items):
        raise CheckpointError(f"{listing} must be a list of modules, each with a type")
    return items


def _entries(checkpoint: Path, listing: Path) -> list[Module]:
    entries = []
    for item in read_listing(listing):
        kind, folder = str(item["type"]), checkpoint / str(item.get("path", ""))
        if not kind.startswith(_LIBRARY):
            raise CheckpointError(f"module {kind} is not of Sentence Transformers: no peer is measured with it")
        name = kind.rsplit(".", 1)[1]
        settings = read_object(folder / (TRANSFORMER_SETTINGS if name == "Transformer" else "config.json"))
        entries.append(Module(name, folder, settings))
    return entries


def _bare(checkpoint: Path) -> list[Module]:
    if not (checkpoint / "config.json").exists():
        raise CheckpointError(f"{checkpoint} has neither modules.json nor config.json: it is not a checkpoint")
    config = read_object(checkpoint / "config.json")
    pooling = {"pooling_mode": "mean", "embedding_dimension": config.get("hidden_size", config.get("dim", 0))}
    return [Module("Transformer", checkpoint, {}), Module("Pooling", checkpoint / "1_Pooling", pooling)]


def _poolings(settings: dict[str, Any]) -> tuple[str, ...]:
    if "pooling_mode" in settings:
        modes = settings["pooling_mode"]
        return (modes,) if isinstance(modes, str) else tuple(modes)
    return tuple(mode for mode, key in OLD_POOLING_KEYS.items() if settings.get(key))


def max_length_of(transformer: Module) -> int:
    """Return the tokens at which a transformer module truncates a text, special ones included.

    Raises:
        CheckpointError: its files do not say it.

    """
    stated = transformer.settings.get("max_seq_length")
    if stated is not None:
        return int(stated)
    # As Sentence Transformers: what the tokenizer states, within the table of positions.
    tokenizer = _tokenizer(transformer)
    config = read_object(transformer.folder / "config.json")
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    known = [int(limit) for limit in limits if limit is not None and limit > 0]
    if not known:
        raise CheckpointError(f"{transformer.folder} does not state how many tokens the model reads")
    return min(known)


def _tokenizer(transformer: Module) -> dict[str, Any]:
    return read_object(transformer.folder / "tokenizer_config.json")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
