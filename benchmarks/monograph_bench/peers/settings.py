"""A checkpoint's settings and tokenizer, written so that every peer reads the same from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from monograph_bench.peers.environments import PeerError
from monograph_bench.peers.modules import Modules
from monograph_export.checkpoint.checkpoint import SETTINGS_FILE, ModuleEntry, read_optional_object
from monograph_export.checkpoint.module_settings import POOLING_FLAGS, TOKENIZER_CONFIG

_COPIED = ("*.json", "*.txt", "*.model")
_SKIPPED = ("modules.json", "README.txt", "*.index.json")
_DENSE_SETTINGS = ("in_features", "out_features", "bias", "activation_function")
# What a module of the new spelling may say without meaning anything else than one of the old.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "module_input_name": (None, "sentence_embedding"),
    "module_output_name": (None, "sentence_embedding"),
    "use_residual": (False,),
}
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def write_settings(checkpoint: Path, modules: Modules, folder: Path) -> None:
    """Write modules.json, the settings of each module and the tokenizer's files into a folder.

    The spelling is the one of sentence-transformers 2 to 5, which 6 reads too. The length at which texts are cut is
    written where each peer looks for it.

    Raises:
        PeerError: a module has settings that the old spelling has not.

    """
    write_tokenizer(modules.transformer, modules.max_length, folder)
    listing = []
    for index, module in enumerate(modules.entries):
        place = "" if index == 0 else f"{index}_{module.name}"
        kind = f"sentence_transformers.models.{module.name}"
        listing.append({"idx": index, "name": str(index), "path": place, "type": kind})
        if index:
            (folder / place).mkdir()
            _write_module(module, modules, folder / place)
    _write(folder / "modules.json", listing)
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": modules.max_length, "do_lower_case": modules.lowercase},
    )
    general = checkpoint / SETTINGS_FILE
    if general.exists():
        shutil.copyfile(general, folder / general.name)


def write_tokenizer(source: Path, max_length: int, folder: Path) -> None:
    """Copy what lies beside a transformer's weights, over what the export wrote; ``max_length`` is where texts are cut.

    Raises:
        ExportError: the tokenizer's settings cannot be read.

    """
    skipped = {path for pattern in _SKIPPED for path in source.glob(pattern)}
    for path in {path for pattern in _COPIED for path in source.glob(pattern)} - skipped:
        shutil.copyfile(path, folder / path.name)
    tokenizer = read_optional_object(folder / TOKENIZER_CONFIG)
    # Where fastembed and light-embed cut texts; in fastembed a smaller "max_length" would win over it.
    tokenizer.pop("max_length", None)
    # The name that transformers 4 has for it, which 5 reads too.
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    _write(folder / TOKENIZER_CONFIG, tokenizer | {"model_max_length": max_length})
    # Which transformers 5 no longer writes, and light-embed asks for.
    special = folder / "special_tokens_map.json"
    if not special.exists():
        _write(special, {key: _content(tokenizer[key]) for key in _SPECIAL_TOKENS if tokenizer.get(key)})


def _content(token: str | dict[str, Any]) -> str:
    """Return a special token as text, which is written with its flags or without."""
    return token if isinstance(token, str) else str(token["content"])


def _write_module(module: ModuleEntry, modules: Modules, place: Path) -> None:
    match module.name:
        case "Pooling":
            _write(place / "config.json", _old_pooling(module.settings, modules))
        case "Dense":
            _write(place / "config.json", _old_dense(module))
            for weights in (*module.folder.glob("*.safetensors"), *module.folder.glob("*.bin")):
                shutil.copyfile(weights, place / weights.name)
        case "Normalize":
            pass
        case _:
            raise PeerError(f"module {module.name} is not written for peers")


def _old_pooling(settings: dict[str, Any], modules: Modules) -> dict[str, Any]:
    if modules.poolings != tuple(mode for mode in POOLING_FLAGS.values() if mode in modules.poolings):
        raise PeerError(f"pooling {' + '.join(modules.poolings)}, in this order, has no spelling that peers read")
    flags = {flag: mode in modules.poolings for flag, mode in POOLING_FLAGS.items()}
    include = settings.get("include_prompt", True)
    return {"word_embedding_dimension": modules.token_width, **flags, "include_prompt": include}


def _old_dense(module: ModuleEntry) -> dict[str, Any]:
    extra = {key: value for key, value in module.settings.items() if key not in _DENSE_SETTINGS}
    refused = [key for key, value in extra.items() if value not in _NEUTRAL.get(key, ())]
    if refused:
        raise PeerError(f"module Dense with {', '.join(refused)} has no spelling that peers read")
    return {key: module.settings[key] for key in _DENSE_SETTINGS if key in module.settings}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
