"""A checkpoint's settings and tokenizer, written so that all software reads the same from them.

That is sentence-transformers 2 to 6, transformers 4 and 5, transformers.js, fastembed and light-embed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monograph.errors import ExportError
from monograph_export.checkpoint.checkpoint import SETTINGS_FILE, ModuleEntry
from monograph_export.checkpoint.module_settings import POOLING_FLAGS
from monograph_export.checkpoint.transformer import COPIED, write_json, write_tokenizer
from monograph_export.publishing.modules import Modules

_DENSE_SETTINGS = ("in_features", "out_features", "bias", "activation_function")
# What a module of the new spelling may say without meaning anything else than one of the old.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "module_input_name": (None, "sentence_embedding"),
    "module_output_name": (None, "sentence_embedding"),
    "use_residual": (False,),
}


def write_settings(checkpoint: Path, modules: Modules, folder: Path, copied: Sequence[str] = COPIED) -> None:
    """Write modules.json, the settings of each module and the tokenizer's files into a folder.

    The spelling is the one of sentence-transformers 2 to 5, which 6 reads too. The maximum length of a text is written
    wherever a reader looks for it. ``copied`` are patterns of the transformer's files to copy.

    Raises:
        ExportError: a module has settings that the old spelling has not.

    """
    write_tokenizer(modules.transformer, modules.max_length, folder, copied)
    listing = []
    for index, module in enumerate(modules.entries):
        place = "" if index == 0 else f"{index}_{module.name}"
        kind = f"sentence_transformers.models.{module.name}"
        listing.append({"idx": index, "name": str(index), "path": place, "type": kind})
        if index:
            (folder / place).mkdir()
            _write_module(module, modules, folder / place)
    write_json(folder / "modules.json", listing)
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": modules.max_length, "do_lower_case": modules.lowercase},
    )
    general = checkpoint / SETTINGS_FILE
    if general.exists():
        shutil.copyfile(general, folder / general.name)


def _write_module(module: ModuleEntry, modules: Modules, place: Path) -> None:
    match module.name:
        case "Pooling":
            write_json(place / "config.json", _old_pooling(module.settings, modules))
        case "Dense":
            write_json(place / "config.json", _old_dense(module))
            for weights in (*module.folder.glob("*.safetensors"), *module.folder.glob("*.bin")):
                shutil.copyfile(weights, place / weights.name)
        case "Normalize":
            pass
        case _:
            raise ExportError(f"module {module.name} has no spelling that other software reads")


def _old_pooling(settings: dict[str, Any], modules: Modules) -> dict[str, Any]:
    if modules.poolings != tuple(mode for mode in POOLING_FLAGS.values() if mode in modules.poolings):
        raise ExportError(
            f"pooling {' + '.join(modules.poolings)}, in this order, has no spelling that other software reads"
        )
    flags = {flag: mode in modules.poolings for flag, mode in POOLING_FLAGS.items()}
    include = settings.get("include_prompt", True)
    return {"word_embedding_dimension": modules.token_width, **flags, "include_prompt": include}


def _old_dense(module: ModuleEntry) -> dict[str, Any]:
    extra = {key: value for key, value in module.settings.items() if key not in _DENSE_SETTINGS}
    refused = [key for key, value in extra.items() if value not in _NEUTRAL.get(key, ())]
    if refused:
        raise ExportError(f"module Dense with {', '.join(refused)} has no spelling that other software reads")
    return {key: module.settings[key] for key in _DENSE_SETTINGS if key in module.settings}
