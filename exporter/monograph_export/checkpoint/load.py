"""Load a checkpoint with sentence-transformers, float32 on the CPU, without running any code of it."""

from __future__ import annotations

import copy
import logging
import pickle
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from transformers.utils import logging as transformers_logging

from monograph.errors import ExportError, UnsupportedModuleError, first_line
from monograph_export.checkpoint.classes import check_module
from monograph_export.checkpoint.layout import read_layout
from monograph_export.checkpoint.mlm_head import check_mlm_head
from monograph_export.checkpoint.modules import DENSE, SPARSE, ModelKind
from monograph_export.checkpoint.routes import RoutedModel, VectorModel, routes_of
from monograph_export.checkpoint.token_table import has_transformer

# A row of the table in transformers' report: name | status |, the status perhaps in colour.
_MISSING_ROW = re.compile(r"^(\S+)\s*\|\s*(?:\x1b\[[\d;]*m)?MISSING\b", re.MULTILINE)
# Modules that take texts, and those of them that make a vector of one by themselves.
_WHOLE = ("StaticEmbedding", "SparseStaticEmbedding")
_FIRST = ("Transformer", "MLMTransformer", *_WHOLE)
# The class that loads each kind of model.
_CLASSES: Mapping[ModelKind, type[VectorModel]] = {DENSE: SentenceTransformer, SPARSE: SparseEncoder}


def load_folder(folder: Path, kind: ModelKind = DENSE) -> RoutedModel:
    """Load a checkpoint folder of a kind of model, and give each of its routes.

    Weights come from safetensors, or from old .bin files read with ``weights_only=True``; code that the
    checkpoint brings is never run, and the network is never asked.

    Raises:
        ExportError: the checkpoint is damaged, incomplete, or needs code of its own.
        UnsupportedModuleError: naming each module that has no exact graph.

    """
    layout = read_layout(folder, kind)
    # The pooler of BERT-like models is not used for sentence vectors, and many checkpoints do not have it.
    with loading(folder, unused=("pooler",)):
        model = _CLASSES[kind](str(folder), device="cpu", **plain_options())
    loaded = [type(module).__name__ for module in model]
    if layout and loaded != [entry.kind for entry in layout]:
        raise ExportError(f"{folder}: modules.json lists {[entry.kind for entry in layout]}, loaded were {loaded}")
    return _ready(model, folder, kind)


def plain_options() -> dict[str, Any]:
    """Return the options with which sentence-transformers loads a folder at float32, without code, pickles, network."""
    return {
        "trust_remote_code": False,
        "local_files_only": True,
        # Whatever type the file has: the reference is the model in float32.
        "model_kwargs": {"dtype": torch.float32, "weights_only": True, "use_kernels": False},
    }


@contextmanager
def loading(folder: Path, unused: Collection[str]) -> Iterator[None]:
    """Load a checkpoint's folder within: without a progress bar, and with the exporter's errors.

    Raises:
        ExportError: the folder cannot be loaded, or lacks weights other than those of modules named ``unused``.

    """
    with _clear_load_errors(folder), _no_progress_bar(), _missing_weights(unused) as missing:
        yield
    if missing:
        raise ExportError(
            f"{folder}: its files lack {len(missing)} weights, {missing[0]} for one: the checkpoint is incomplete"
        )


def copy_loaded(model: VectorModel) -> RoutedModel:
    """Return a float32 copy on the CPU of a model that the caller goes on using.

    Raises:
        UnsupportedModuleError: naming each module that has no exact graph.

    """
    kind = SPARSE if isinstance(model, SparseEncoder) else DENSE
    return _ready(copy.deepcopy(model).to("cpu"), "the model", kind)


def _ready(model: VectorModel, name: object, kind: ModelKind) -> RoutedModel:
    problems = [problem for module in model for problem in check_module(module, kind)]
    if problems:
        raise UnsupportedModuleError(f"{name}: {'; '.join(problems)}")
    model = model.float().eval()
    model.requires_grad_(False)
    routed = routes_of(model)
    for route, part in routed.routes.items():
        named = name if route is None else f"{name}, route {route}"
        _check_order(part, named)
        if kind is SPARSE:
            _check_sparse(part, named)
    return routed


def _check_sparse(model: VectorModel, name: object) -> None:
    """Refuse modules other than a head of masked words with its pooling, or weights of tokens alone."""
    _, *others = (type(module).__name__ for module in model)
    wanted = ["SpladePooling"] if has_transformer(model) else []
    if others != wanted:
        first = type(model[0]).__name__
        raise UnsupportedModuleError(
            f"{name}: behind {first} come {', '.join(others) or 'no modules'} instead of {', '.join(wanted) or 'none'}"
        )
    if has_transformer(model):
        check_mlm_head(model, name)


def _check_order(model: VectorModel, name: object) -> None:
    """Refuse modules in a row that do not make a vector of a text."""
    first, *others = (type(module).__name__ for module in model)
    if first not in _FIRST or any(kind in others for kind in _FIRST):
        raise UnsupportedModuleError(
            f"{name}: the modules {', '.join((first, *others))} do not begin with one {' or '.join(_FIRST)}"
        )
    if first == "StaticEmbedding":
        return
    if first not in _WHOLE and not {"Pooling", "SpladePooling"} & set(others):
        raise UnsupportedModuleError(f"{name}: there is no Pooling among {', '.join((first, *others))}")
    if model.tokenizer is None or not getattr(model.tokenizer, "is_fast", False):
        raise ExportError(f"{name}: its tokenizer has no tokenizer.json form, so the Rust tokenizers cannot run it")


@contextmanager
def _missing_weights(unused: Collection[str]) -> Iterator[list[str]]:
    """Collect the names of weights that transformers did not find and filled with random numbers.

    It says so in the report it logs and nowhere else. Those of modules named ``unused`` are left out.
    """
    missing: list[str] = []
    reporter = logging.getLogger("transformers.modeling_utils")
    level, shown = reporter.level, reporter.getEffectiveLevel()

    def read(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        missing.extend(name for name in _MISSING_ROW.findall(message) if set(unused).isdisjoint(name.split(".")))
        return "LOAD REPORT" not in message and record.levelno >= shown

    reporter.addFilter(read)
    # Below WARNING, from which on transformers also lists every layer as not sharded.
    reporter.setLevel(min(shown, logging.INFO))
    try:
        yield missing
    finally:
        reporter.removeFilter(read)
        reporter.setLevel(level)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def _clear_load_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{folder}: its weights hold more than tensors and are not loaded (weights_only): "
            "save the checkpoint as safetensors"
        ) from error
    except Exception as error:
        raise ExportError(f"{folder} cannot be loaded: {first_line(error)}") from error
