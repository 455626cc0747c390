"""Which Sentence Transformers modules have an exact graph, and with which settings.

A module is added by a line in ``_SUPPORTED``; a setting that would change vectors and that the graph does not
carry is refused by name in ``check_config`` (a folder) and ``check_module`` (a loaded model).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, StaticEmbedding
from torch import nn

ROUTER = "Router"
_SUPPORTED: Mapping[type, str] = {
    Transformer: "Transformer",
    Pooling: "Pooling",
    Dense: "Dense",
    Normalize: "Normalize",
    LayerNorm: "LayerNorm",
    Dropout: "Dropout",
    StaticEmbedding: "StaticEmbedding",
    Router: ROUTER,
}
SUPPORTED_NAMES = tuple(_SUPPORTED.values())
_TEXT_TASK = "feature-extraction"
# Settings of Transformer that treat queries or inputs in ways of their own.
# tokenizer_name_or_path would read a folder outside the checkpoint.
_REFUSED_WHEN_SET = (
    "query_length",
    "document_length",
    "query_expansion",
    "processing_kwargs",
    "tokenizer_name_or_path",
)
# Every setting that is looked at, of any module.
_SETTINGS = (*_REFUSED_WHEN_SET, "transformer_task", "modality_config", "activation_function")


def supported_class(module_class: object) -> str | None:
    """Return the name of a module class that has an exact graph, None for any other, subclasses included."""
    # A subclass may override forward, and with it the meaning.
    return _SUPPORTED.get(module_class) if isinstance(module_class, type) else None


def check_config(name: str, config: Mapping[str, Any]) -> list[str]:
    """Return the settings of a module's saved config that have no exact graph."""
    checks: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
        "Transformer": _transformer_problems,
        "Dense": _dense_problems,
    }
    return checks[name](config) if name in checks else []


def check_module(module: nn.Module) -> list[str]:
    """Return why a loaded module has no exact graph, an empty list where it has one."""
    name = supported_class(type(module))
    if name is None:
        return [f"module {type(module).__module__}.{type(module).__qualname__}"]
    # By getattr, for some of them are properties.
    settings = {key: getattr(module, key) for key in _SETTINGS if hasattr(module, key)}
    if isinstance(module, Router):
        within = (part for route in module.sub_modules.values() for part in route)
        return [f"in a Router {problem}" for part in within for problem in _problems_within(part)]
    if "activation_function" in settings:
        settings["activation_function"] = _full_name(settings["activation_function"])
    return [f"module {name}: {problem}" for problem in check_config(name, settings)]


def _problems_within(module: nn.Module) -> list[str]:
    return ["another Router"] if isinstance(module, Router) else check_module(module)


def _transformer_problems(settings: Mapping[str, Any]) -> list[str]:
    problems = [f"setting {key}" for key in _REFUSED_WHEN_SET if settings.get(key)]
    task = settings.get("transformer_task", _TEXT_TASK)
    if task != _TEXT_TASK:
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


def _full_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
