"""Read a checkpoint's modules from its files: what stands behind the encoder, as things that can be grafted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.layout import ModuleEntry, read_layout, read_object
from monograph_export.from_onnx.modules import ACTIVATIONS, Dense, LayerNorm, Module, Normalize
from monograph_export.from_onnx.pooling import FLAGS, POOLING_MODES, Pooling
from monograph_export.from_onnx.weights import read_weights

_SENTENCE, _TOKENS = "sentence_embedding", "token_embeddings"
# What may come after the pooling.
_FOLLOWING = ("Dense", "LayerNorm", "Normalize", "Dropout")
# What Sentence Transformers takes where a config does not name one.
_DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"
# What loading in torch would be told, and no file of an encoder knows.
_TORCH_SETTINGS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint without its encoder.

    ``transformer`` is the folder of the encoder's settings and tokenizer, ``settings`` those of the Transformer module.
    """

    folder: Path
    transformer: Path
    settings: Mapping[str, Any]
    pooling: Pooling
    modules: tuple[Module, ...]

    @property
    def width(self) -> int:
        """The number of dimensions of a text's vector."""
        return self.modules[-1].width if self.modules else self.pooling.width

    @property
    def normalized(self) -> bool:
        """Whether vectors have unit length."""
        return bool(self.modules) and isinstance(self.modules[-1], Normalize)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what stands behind the encoder of a checkpoint.

    Raises:
        ExportError: the folder is not a checkpoint, or a file of it cannot be read.
        UnsupportedModuleError: naming a module or setting that cannot be grafted.

    """
    entries = read_layout(folder)
    if not entries:
        return _bare(folder)
    kinds = [entry.kind for entry in entries]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(_FOLLOWING):
        raise UnsupportedModuleError(
            f"{folder}: the modules {', '.join(kinds)} are not one Transformer, one Pooling and any of "
            f"{', '.join(_FOLLOWING)}: export the checkpoint itself"
        )
    transformer = entries[0]
    refused = [
        *(
            ["module Pooling: setting include_prompt=False"]
            if not entries[1].config.get("include_prompt", True)
            else []
        ),
        *(f"module Transformer: {problem}" for problem in _transformer_problems(transformer.config)),
        *(f"module {entry.kind}: {problem}" for entry in entries[1:] for problem in _feature_problems(entry.config)),
    ]
    if refused:
        raise UnsupportedModuleError(f"{folder}: {'; '.join(refused)}")
    pooling = _read_pooling(entries[1])
    return Checkpoint(
        folder, transformer.folder, transformer.config, pooling, _read_modules(entries[2:], pooling.width)
    )


def _bare(folder: Path) -> Checkpoint:
    """Return a transformer without modules.json, behind which Sentence Transformers puts pooling."""
    config = read_object(folder / "config.json")
    if any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ()):
        raise UnsupportedModuleError(f"{folder}: a generative model without modules.json is not grafted")
    return Checkpoint(folder, folder, {}, Pooling(_hidden_size(folder)), ())


def _hidden_size(folder: Path) -> int:
    config = read_object(folder / "config.json")
    size = config.get("hidden_size", config.get("dim", config.get("d_model")))
    if type(size) is not int or size < 1:
        raise ExportError(f"{folder / 'config.json'} does not state the hidden_size, the width of a token's vector")
    return size


def _transformer_problems(config: Mapping[str, Any]) -> list[str]:
    problems = [f"setting {key}" for key in _TORCH_SETTINGS if config.get(key)]
    output = config.get("module_output_name") or _TOKENS
    if output != _TOKENS:
        problems.append(f"module_output_name {output!r}")
    method = ((config.get("modality_config") or {}).get("text") or {}).get("method_output_name", "last_hidden_state")
    if method != "last_hidden_state":
        problems.append(f"method_output_name {method!r}")
    return problems


def _feature_problems(config: Mapping[str, Any]) -> list[str]:
    keys = ("module_input_name", "module_output_name")
    return [f"{key} {config[key]!r}" for key in keys if config.get(key) not in (None, _SENTENCE)]


def _read_pooling(entry: ModuleEntry) -> Pooling:
    config = entry.config
    stated = config.get("pooling_mode")
    if stated is None:
        modes = [mode for flag, mode in FLAGS.items() if config.get(flag)] or ["mean"]
    else:
        modes = [stated] if isinstance(stated, str) else stated
    if not isinstance(modes, list) or not modes or not all(mode in POOLING_MODES for mode in modes):
        raise UnsupportedModuleError(f"{entry.folder}: pooling_mode {stated!r}; there are {', '.join(POOLING_MODES)}")
    width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    if type(width) is not int or width < 1:
        raise ExportError(
            f"{entry.folder / 'config.json'} must state embedding_dimension, the width of a token's vector"
        )
    return Pooling(width, tuple(modes))


def _read_modules(entries: Sequence[ModuleEntry], width: int) -> tuple[Module, ...]:
    modules: list[Module] = []
    for entry in entries:
        if entry.kind == "Dropout":
            continue
        modules.append(_read_module(entry, width))
        width = modules[-1].width
    return tuple(modules)


def _read_module(entry: ModuleEntry, width: int) -> Module:
    if entry.kind == "Normalize":
        return Normalize(width)
    if entry.kind == "LayerNorm":
        weights = read_weights(entry.folder)
        return LayerNorm(*(_tensor(weights, entry, name, (width,)) for name in ("norm.weight", "norm.bias")))
    return _read_dense(entry, width)


def _read_dense(entry: ModuleEntry, width: int) -> Dense:
    config, weights = entry.config, read_weights(entry.folder)
    path = str(config.get("activation_function", _DEFAULT_ACTIVATION))
    name = path.rpartition(".")[2]
    # A function of torch is not the class of that name.
    if not path.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise UnsupportedModuleError(
            f"{entry.folder}: activation_function {path} is not grafted, only {', '.join(ACTIVATIONS)} are: export the "
            "checkpoint itself"
        )
    outputs = config.get("out_features")
    if type(outputs) is not int:
        raise ExportError(f"{entry.folder / 'config.json'} must state out_features")
    bias = _tensor(weights, entry, "linear.bias", (outputs,)) if config.get("bias", True) else None
    residual: NDArray[np.float32] | bool = bool(config.get("use_residual"))
    if residual and outputs != width:
        residual = _tensor(weights, entry, "residual.weight", (outputs, width))
    return Dense(_tensor(weights, entry, "linear.weight", (outputs, width)), bias, ACTIVATIONS[name], residual)


def _tensor(
    weights: Mapping[str, NDArray[np.float32]], entry: ModuleEntry, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    if name not in weights:
        raise ExportError(f"{entry.folder}: its weights lack {name}: the checkpoint is incomplete")
    found = weights[name]
    if found.shape != shape:
        raise ExportError(f"{entry.folder}: {name} is {list(found.shape)} and not {list(shape)}: it is another model's")
    return found
