"""Load a cross-encoder with sentence-transformers, float32 on the CPU, without running any code of it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer

from monograph.bundle.manifest import Rerank
from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.load import loading, plain_options
from monograph_export.checkpoint.modules import CLASSIFYING_TASK, SETTINGS, transformer_problems
from monograph_export.reranking.layout import check_activation, check_layout

# What transformers calls labels that nobody has named.
_UNNAMED = re.compile(r"LABEL_\d+")


def load_cross_encoder(folder: Path) -> CrossEncoder:
    """Load a checkpoint folder.

    Raises:
        ExportError: the checkpoint is damaged, incomplete (it lacks the weights of its classifier, for example), or
            needs code of its own.
        UnsupportedModuleError: naming what has no exact graph.

    """
    check_layout(folder)
    # A classifier computes its logits from the pooler, so none of its weights may be missing.
    with loading(folder, unused=()):
        model = CrossEncoder(str(folder), device="cpu", **plain_options())
    return _ready(model, folder)


def copy_cross_encoder(model: CrossEncoder) -> CrossEncoder:
    """Return a float32 copy on the CPU of a model that the caller goes on using.

    Raises:
        ExportError: its tokenizer has no Rust form.
        UnsupportedModuleError: naming what has no exact graph.

    """
    return _ready(copy.deepcopy(model).to("cpu"), "the model")


def _ready(model: CrossEncoder, name: object) -> CrossEncoder:
    kinds = [f"{type(module).__module__}.{type(module).__qualname__}" for module in model]
    if [type(module) for module in model] != [Transformer]:
        raise UnsupportedModuleError(f"{name}: a CrossEncoder of {', '.join(kinds)} is not exported")
    settings = {key: getattr(model[0], key) for key in SETTINGS if hasattr(model[0], key)}
    if problems := transformer_problems(settings, CLASSIFYING_TASK):
        raise UnsupportedModuleError(f"{name}: {'; '.join(f'module Transformer: {p}' for p in problems)}")
    activation = type(model.activation_fn)
    check_activation(name, f"{activation.__module__}.{activation.__qualname__}")
    if not getattr(model.tokenizer, "is_fast", False):
        raise ExportError(f"{name}: its tokenizer has no tokenizer.json form, so the Rust tokenizers cannot run it")
    # Layers that stay in float32 under autocast; without it they are as all others.
    model.set_keep_in_fp32_modules([])
    model = model.float().eval()
    model.requires_grad_(False)
    return model


def rerank_of(model: CrossEncoder) -> Rerank:
    """Describe the scores of a model."""
    labels = int(model.num_labels)
    named = getattr(model.config, "id2label", None) or {}
    names = tuple(str(named.get(label, "")) for label in range(labels))
    given = all(name and not _UNNAMED.fullmatch(name) for name in names)
    return Rerank(labels, type(model.activation_fn).__name__, names if given else ())
