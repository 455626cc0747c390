"""Which Sentence Transformers modules have an exact graph, and with which settings.

Modules are known by name here, so that a folder is judged without torch. A setting that would change vectors and that
the graph does not carry is refused by name in ``check_config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROUTER = "Router"
# What the Transformer of an embedding model does, of a sparse encoder, and of a cross-encoder.
TEXT_TASK = "feature-extraction"
MLM_TASK = "fill-mask"
CLASSIFYING_TASK = "sequence-classification"


@dataclass(frozen=True)
class ModelKind:
    """A class of Sentence Transformers that makes vectors of texts: its name, and what its models are made of.

    ``names`` are those of modules with an exact graph; ``transformer_task`` is what their Transformer does.
    """

    model_type: str
    names: tuple[str, ...]
    transformer_task: str


DENSE = ModelKind(
    "SentenceTransformer",
    ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "StaticEmbedding", ROUTER),
    TEXT_TASK,
)
# MLMTransformer is what its Transformer was called.
SPARSE = ModelKind(
    "SparseEncoder",
    ("Transformer", "MLMTransformer", "SpladePooling", "SparseStaticEmbedding", ROUTER),
    MLM_TASK,
)
# What a class is called now, by what it was called.
_RENAMED = {"Asym": ROUTER}
# Where Sentence Transformers has, and had, its modules. Other packages of it have modules of the same names.
_PACKAGES = (
    "sentence_transformers.models.",
    "sentence_transformers.base.modules.",
    "sentence_transformers.sentence_transformer.modules.",
    "sentence_transformers.sparse_encoder.models.",
    "sentence_transformers.sparse_encoder.modules.",
)
# Settings of Transformer that treat queries or inputs in ways of their own.
# tokenizer_name_or_path would read a folder outside the checkpoint.
_REFUSED_WHEN_SET = (
    "query_length",
    "document_length",
    "query_expansion",
    "processing_kwargs",
    "tokenizer_name_or_path",
)
_SPLADE = {"pooling_strategy": ("max", "sum"), "activation_function": ("relu", "log1p_relu")}
# Every setting that is looked at, of any module.
SETTINGS = (*_REFUSED_WHEN_SET, "transformer_task", "modality_config", "activation_function")


def module_name(written: str, kind: ModelKind = DENSE) -> str | None:
    """Return the name of a module's class, by whatever path its type spells it; None where it has no exact graph."""
    name = written.rpartition(".")[2]
    name = _RENAMED.get(name, name)
    return name if written.startswith(_PACKAGES) and name in kind.names else None


def check_config(name: str, config: Mapping[str, Any], kind: ModelKind = DENSE) -> list[str]:
    """Return the settings of a module's saved config that have no exact graph."""
    if name in ("Transformer", "MLMTransformer"):
        return transformer_problems(config, kind.transformer_task)
    if name == "SpladePooling":
        return [
            f"{key} {config[key]!r}" for key, known in _SPLADE.items() if key in config and config[key] not in known
        ]
    if name == "SparseStaticEmbedding":
        # A file of weights that may lie anywhere.
        return ["setting path"] if config.get("path") else []
    return _dense_problems(config) if name == "Dense" else []


def transformer_problems(settings: Mapping[str, Any], expected_task: str) -> list[str]:
    """Return the settings of a Transformer that have no exact graph, where it is to do ``expected_task``."""
    problems = [f"setting {key}" for key in _REFUSED_WHEN_SET if settings.get(key)]
    task = settings.get("transformer_task", expected_task)
    if task != expected_task:
        problems.append(f"transformer_task {task!r}")
    modalities = settings.get("modality_config")
    if modalities and "message" in modalities:
        problems.append("modality_config with 'message' (texts through a chat template)")
    if modalities and "text" not in modalities:
        problems.append("modality_config without 'text'")
    return problems


def _dense_problems(settings: Mapping[str, Any]) -> list[str]:
    activation = settings.get("activation_function")
    # Sentence Transformers replaces an activation from elsewhere by Tanh, with a warning: other vectors.
    if activation is None or str(activation).startswith("torch."):
        return []
    return [f"activation_function {activation}"]
