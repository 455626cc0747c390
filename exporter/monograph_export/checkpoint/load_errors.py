"""Why transformers or Sentence Transformers did not load a checkpoint, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

from monograph_export.checkpoint.checkpoint import Checkpoint, read_optional_object
from monograph_export.checkpoint.tokenizer_errors import tokenizer_problem
from monograph_export.foreign_errors import is_out_of_memory, plain_line

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


def load_problem(error: Exception, mismatched: Sequence[str], transformer: Path) -> str:
    """Return an error of loading in one line.

    ``mismatched`` are weights of other shapes than the config states, ``transformer`` is the folder of the tokenizer.
    """
    text = str(error)
    version = importlib.metadata.version("transformers")
    if isinstance(error, pickle.UnpicklingError):
        return (
            "its weights hold more than tensors and are not loaded (weights_only): save the checkpoint as safetensors"
        )
    if is_out_of_memory(error):
        return "there is not enough memory to load it at float32: close other programs, or use a larger machine"
    if "trust_remote_code" in text or "custom code" in text:
        return (
            "it needs code of its own (auto_map in config.json), which an export never runs: only architectures that "
            "transformers has can be exported"
        )
    if unknown := _UNKNOWN_TYPE.search(text):
        return (
            f"transformers {version} does not know the model_type {unknown[1]!r} of its config.json: upgrade with "
            "pip install -U transformers, or export an architecture that it has"
        )
    if "Unrecognized model in" in text:
        return f"its config.json has no model_type that transformers {version} knows: it is incomplete"
    if "no file named" in text:
        return (
            "it has no weights, neither model.safetensors nor pytorch_model.bin: download them too, or convert those "
            "of another format with transformers"
        )
    if mismatched:
        return (
            f"{len(mismatched)} of its weights have other shapes than config.json states, {mismatched[0]} for one: "
            "weights and config.json are of different models"
        )
    return tokenizer_problem(error, transformer) or f"cannot be loaded: {_line(error)}"


def _line(error: BaseException) -> str:
    # The message of a KeyError is the key alone.
    return f"{type(error).__name__} {plain_line(error)}" if isinstance(error, KeyError) else plain_line(error)
