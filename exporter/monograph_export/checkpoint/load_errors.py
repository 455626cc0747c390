"""Why transformers or Sentence Transformers did not load a checkpoint, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import pickle
import re
from collections.abc import Sequence

from monograph_export.checkpoint.checkpoint import Checkpoint, read_optional_object
from monograph_export.checkpoint.damage import find_damage
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG
from monograph_export.checkpoint.tokenizer_errors import tokenizer_problem
from monograph_export.foreign_errors import is_out_of_memory, plain_line

# Of a module whose config is missing, or lacks what it must state.
_MISSING_SETTINGS = re.compile(r"(\w+)\.__init__\(\) missing \d+ required positional arguments?: (.+)")
_UNKNOWN_TYPE = re.compile(r"model type `([^`]*)`")


def find_obstacle(checkpoint: Checkpoint) -> str | None:
    """Return why a checkpoint cannot be loaded as its author's model, before it is tried; None where it can."""
    folder = checkpoint.first_folder
    if (folder / "adapter_config.json").exists():
        return (
            "it is an adapter of PEFT (adapter_config.json), not a whole model: merge it into its model with "
            "merge_and_unload() and save that"
        )
    quantization = read_optional_object(folder / "config.json").get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        return (
            f"its weights are quantized already ({method}), which has no exact graph: export the checkpoint that it "
            "was made of, with --precision int8 for small weights"
        )
    return None


def load_problem(error: Exception, mismatched: Sequence[str], checkpoint: Checkpoint) -> str:
    """Return an error of loading a checkpoint in one line.

    ``mismatched`` are weights of other shapes than the config states.
    """
    text = str(error)
    version = importlib.metadata.version("transformers")
    if damage := find_damage(checkpoint):
        return damage
    if isinstance(error, pickle.UnpicklingError):
        return (
            "its weights hold more than tensors and are not loaded (weights_only): save the checkpoint as safetensors"
        )
    if is_out_of_memory(error):
        return "there is not enough memory to load it at float32: close other programs, or use a larger machine"
    if "trust_remote_code" in text or "custom code" in text:
        in_config = "auto_map" in read_optional_object(checkpoint.first_folder / "config.json")
        return (
            f"it needs code of its own (auto_map in {'config.json' if in_config else TOKENIZER_CONFIG}), which an "
            "export never runs: only architectures that transformers has can be exported"
        )
    if unknown := _UNKNOWN_TYPE.search(text):
        return (
            f"transformers {version} does not know the model_type {unknown[1]!r} of its config.json: upgrade with "
            "pip install -U transformers, or export an architecture that it has"
        )
    if "Unrecognized model in" in text:
        return f"its config.json has no model_type that transformers {version} knows: it is incomplete"
    if problem := _problem_of_files(error, checkpoint):
        return problem
    if mismatched:
        return (
            f"{len(mismatched)} of its weights have other shapes than config.json states, {mismatched[0]} for one: "
            "weights and config.json are of different models"
        )
    return tokenizer_problem(error, checkpoint.first_folder) or f"cannot be loaded: {_line(error)}"


def _problem_of_files(error: Exception, checkpoint: Checkpoint) -> str | None:
    """Return what a checkpoint's files lack, or state and nobody knows, None where the error is another."""
    text = str(error)
    if missing := _MISSING_SETTINGS.search(text):
        return (
            f"the config.json of its {missing[1]} does not state {missing[2]}: it is missing or incomplete, so "
            "download the checkpoint again"
        )
    if setting := _unknown_setting(error, checkpoint):
        return setting
    if "no file named" in text:
        return (
            "it has no weights, neither model.safetensors nor pytorch_model.bin: download them too, or convert those "
            "of another format with transformers"
        )
    return None


def _unknown_setting(error: Exception, checkpoint: Checkpoint) -> str | None:
    """Return which setting of config.json has a value that transformers does not have; None if the error is another."""
    if not isinstance(error, KeyError) or not error.args:
        return None
    config = read_optional_object(checkpoint.first_folder / "config.json")
    name = next((name for name, value in config.items() if value == error.args[0]), None)
    version = importlib.metadata.version("transformers")
    return (
        None if name is None else f"transformers {version} has no {name} {config[name]!r}, which its config.json states"
    )


def _line(error: BaseException) -> str:
    # The message of a KeyError is the key alone.
    return f"{type(error).__name__} {plain_line(error)}" if isinstance(error, KeyError) else plain_line(error)
