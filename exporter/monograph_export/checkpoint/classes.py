"""The classes of a loaded model's modules: which of them have an exact graph, and with which settings.

A module is added by its class in ``_SUPPORTED`` and its name in the ``names`` of a ``ModelKind``.
"""

from __future__ import annotations

from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SparseStaticEmbedding, SpladePooling
from torch import nn

from monograph_export.checkpoint.modules import DENSE, SETTINGS, ModelKind, check_config

_SUPPORTED = (
    *(Transformer, Pooling, Dense, LayerNorm, Normalize, Dropout, StaticEmbedding, Router),
    *(MLMTransformer, SpladePooling, SparseStaticEmbedding),
)


def check_module(module: nn.Module, of: ModelKind = DENSE) -> list[str]:
    """Return why a loaded module has no exact graph, an empty list where it has one."""
    # By its very class: a subclass may override forward, and with it the meaning.
    kind = type(module)
    if kind not in _SUPPORTED or kind.__name__ not in of.names:
        return [f"module {kind.__module__}.{kind.__qualname__}"]
    # By getattr, for some of them are properties.
    settings = {key: getattr(module, key) for key in SETTINGS if hasattr(module, key)}
    if isinstance(module, Router):
        within = (part for route in module.sub_modules.values() for part in route)
        return [f"in a Router {problem}" for part in within for problem in _problems_within(part, of)]
    if isinstance(settings.get("activation_function"), nn.Module):
        settings["activation_function"] = _full_name(settings["activation_function"])
    return [f"module {kind.__name__}: {problem}" for problem in check_config(kind.__name__, settings, of)]


def _problems_within(module: nn.Module, of: ModelKind) -> list[str]:
    return ["another Router"] if isinstance(module, Router) else check_module(module, of)


def _full_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
