"""Read a checkpoint's modules from its files: what stands behind the encoder, as it is appended to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.checkpoint import Checkpoint, ModuleEntry
from monograph_export.checkpoint.module_settings import read_pooling
from monograph_export.from_onnx.modules import ACTIVATIONS, Dense, LayerNorm, Module, Normalize
from monograph_export.from_onnx.pooling import Pooling
from monograph_export.from_onnx.weights import read_weights

_SENTENCE, _TOKENS = "sentence_embedding", "token_embeddings"
# What may come after the pooling.
_FOLLOWING = ("Dense", "LayerNorm", "Normalize", "Dropout")
# What Sentence Transformers takes where a config does not name one.
_DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"
# Settings that change how a model is loaded in torch, which an encoder's file cannot follow.
_TORCH_SETTINGS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")


@dataclass(frozen=True)
class Head:
    """The modules behind an encoder.

    ``transformer`` is the folder of the encoder's settings and tokenizer, ``transformer_settings`` those of the
    Transformer module.
    """

    transformer: Path
    transformer_settings: Mapping[str, Any]
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


def read_head(checkpoint: Checkpoint) -> Head:
    """Read what stands behind the encoder of a checkpoint.

    Raises:
        ExportError: a file of it cannot be read.
        UnsupportedModuleError: naming a module or setting that cannot be appended.

    """
    folder, entries = checkpoint.folder, checkpoint.modules
    if not entries:
        return _bare(checkpoint)
    names = [str(entry.name) for entry in entries]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= set(_FOLLOWING):
        raise UnsupportedModuleError(
            f"{folder}: the modules {', '.join(names)} are not one Transformer, one Pooling and any of "
            f"{', '.join(_FOLLOWING)}: export the checkpoint itself"
        )
    transformer, pooling_entry, *following = entries
    refused = [
        *(
            []
            if pooling_entry.settings.get("include_prompt", True)
            else ["module Pooling: setting include_prompt=False"]
        ),
        *(f"module Transformer: {problem}" for problem in _transformer_problems(transformer.settings)),
        *(f"module {entry.name}: {problem}" for entry in entries[1:] for problem in _feature_problems(entry.settings)),
    ]
    if refused:
        raise UnsupportedModuleError(f"{folder}: {'; '.join(refused)}")
    pooling = Pooling(*read_pooling(pooling_entry))
    return Head(transformer.folder, transformer.settings, pooling, _read_modules(following, pooling.width))


def _bare(checkpoint: Checkpoint) -> Head:
    """Return the head of a transformer without modules.json, behind which Sentence Transformers puts mean pooling."""
    folder = checkpoint.folder
    if any(name.endswith("ForCausalLM") for name in checkpoint.architectures):
        raise UnsupportedModuleError(
            f"{folder}: a generative model without modules.json cannot be exported from an ONNX file"
        )
    return Head(folder, {}, Pooling(checkpoint.token_width), ())


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


def _read_modules(entries: Sequence[ModuleEntry], width: int) -> tuple[Module, ...]:
    modules: list[Module] = []
    for entry in entries:
        if entry.name == "Dropout":
            continue
        modules.append(_read_module(entry, width))
        width = modules[-1].width
    return tuple(modules)


def _read_module(entry: ModuleEntry, width: int) -> Module:
    if entry.name == "Normalize":
        return Normalize(width)
    if entry.name == "LayerNorm":
        weights = read_weights(entry.folder)
        return LayerNorm(*(_tensor(weights, entry, name, (width,)) for name in ("norm.weight", "norm.bias")))
    return _read_dense(entry, width)


def _read_dense(entry: ModuleEntry, width: int) -> Dense:
    config, weights = entry.settings, read_weights(entry.folder)
    path = str(config.get("activation_function", _DEFAULT_ACTIVATION))
    name = path.rpartition(".")[2]
    # A function of torch is not the class of that name.
    if not path.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise UnsupportedModuleError(
            f"{entry.folder}: activation_function {path} is not appended, only {', '.join(ACTIVATIONS)} are: "
            "export the checkpoint itself"
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
    tensor = weights[name]
    if tensor.shape != shape:
        raise ExportError(
            f"{entry.folder}: {name} is {list(tensor.shape)} and not {list(shape)}: it is another model's"
        )
    return tensor
