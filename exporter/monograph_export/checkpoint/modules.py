"""Which Sentence Transformers modules have an exact graph, and with which settings.

Modules are known by name here, so that a folder is checked without torch. A setting that would change vectors and that
the graph does not carry is refused by name in ``setting_problems``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

ROUTER = "Router"
# The feature that modules leave a text's vector in.
SENTENCE_EMBEDDING = "sentence_embedding"
# What a class was called, and is called now.
_RENAMED = {"Asym": ROUTER}
# Where Sentence Transformers has, and had, its modules. Other packages of it have modules of the same names.
_PACKAGES = (
    "sentence_transformers.models.",
    "sentence_transformers.base.modules.",
    "sentence_transformers.sentence_transformer.modules.",
    "sentence_transformers.sparse_encoder.models.",
    "sentence_transformers.sparse_encoder.modules.",
    "sentence_transformers.multi_vector_encoder.modules.",
    # Its Dense is loaded as that of Sentence Transformers.
    "pylate.models.Dense.",
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
# Every setting that is checked, of any module.
SETTINGS = (*_REFUSED_WHEN_SET, "transformer_task", "modality_config", "activation_function", "keep_only_token_ids")


@dataclass(frozen=True)
class ModelKind:
    """A model class of Sentence Transformers, ``model_type``, and what its models are made of.

    ``names`` are its modules with an exact graph. ``transformer_task`` is what its Transformer does, and ``pooling``
    the module that must come behind one, None for none. Weights of modules in ``unused_weights`` may be missing.
    ``truncation`` is the model's setting that shortens vectors, None where there is none. ``carried`` are settings of
    the Transformer that are otherwise refused. Checkpoints may state one of ``former_types`` instead of ``model_type``;
    Sentence Transformers then adds those of the modules ``added`` that modules.json does not list.
    """

    model_type: str
    names: tuple[str, ...]
    transformer_task: str
    pooling: str | None = None
    unused_weights: tuple[str, ...] = ()
    truncation: str | None = None
    carried: tuple[str, ...] = ()
    former_types: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def model_class(self) -> type[BaseModel]:
        """Return the class itself."""
        import sentence_transformers

        loaded: type[BaseModel] = getattr(sentence_transformers, self.model_type)
        return loaded


def module_name(written: str) -> str | None:
    """Return the name of a module's class, by whatever path its type spells it; None for one of another package."""
    name = written.rpartition(".")[2]
    return _RENAMED.get(name, name) if written.startswith(_PACKAGES) else None


def setting_problems(name: str, settings: Mapping[str, Any], kind: ModelKind) -> list[str]:
    """Return the settings of a module that have no exact graph."""
    if name in ("Transformer", "MLMTransformer"):
        return _transformer_problems(settings, kind)
    if name == "SpladePooling":
        return [
            f"{key} {settings[key]!r}"
            for key, known in _SPLADE.items()
            if key in settings and settings[key] not in known
        ]
    if name == "SparseStaticEmbedding":
        # A file of weights that may lie anywhere.
        return ["setting path"] if settings.get("path") else []
    if name == "MultiVectorMask":
        return ["setting keep_only_token_ids"] if settings.get("keep_only_token_ids") else []
    return _dense_problems(settings) if name == "Dense" else []


def _transformer_problems(settings: Mapping[str, Any], kind: ModelKind) -> list[str]:
    expected_task = kind.transformer_task
    problems = [f"setting {key}" for key in _REFUSED_WHEN_SET if settings.get(key) and key not in kind.carried]
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
    if "activation_function" not in settings:
        return []
    activation = str(settings["activation_function"])
    # Sentence Transformers replaces an activation from elsewhere by Tanh, with a warning: other vectors. What is of
    # torch and no module it does not load.
    if activation.startswith("torch.nn.") and activation.rpartition(".")[2][:1].isupper():
        return []
    return [f"activation_function {activation}, which is no module of torch.nn"]
