"""Load a checkpoint with sentence-transformers, float32 on the CPU, without running any code of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SparseStaticEmbedding, SpladePooling
from torch import nn
from transformers.utils import logging as transformers_logging

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.checkpoint.features import FeatureError, features_of
from monograph_export.checkpoint.load_errors import find_obstacle, load_problem
from monograph_export.checkpoint.modules import SETTINGS, ModelKind, setting_problems

# A row of the table in transformers' report: name | status |, the status perhaps in color. Weights of several layers
# share a row, encoder.layer.{1, 2}.output.dense.weight.
_REPORT_ROW = re.compile(r"^([^|\n]*[^|\s])\s*\|\s*(?:\x1b\[[\d;]*m)?(MISSING|MISMATCH)\b", re.MULTILINE)
# Classes with an exact graph; a kind of model has some of them.
_SUPPORTED = (
    *(Transformer, Pooling, Dense, LayerNorm, Normalize, Dropout, StaticEmbedding, Router),
    *(MLMTransformer, SpladePooling, SparseStaticEmbedding, MultiVectorMask),
)
# Modules that take texts, and those of them that make a vector of one by themselves.
_WHOLE = ("StaticEmbedding", "SparseStaticEmbedding")
_FIRST = ("Transformer", "MLMTransformer", *_WHOLE)


def load_checkpoint(checkpoint: Checkpoint, kind: ModelKind) -> BaseModel:
    """Load a checkpoint as a kind of model.

    Weights come from safetensors, or from old .bin files read with ``weights_only=True``; code that the checkpoint
    brings is never run, and the network is never used.

    Raises:
        ExportError: the checkpoint is damaged, incomplete, or needs code of its own.

    """
    folder = checkpoint.folder
    if obstacle := find_obstacle(checkpoint):
        raise ExportError(f"{folder}: {obstacle}")
    with _no_progress_bar(), _weight_reports(kind.unused_weights) as report:
        try:
            model = kind.model_class()(
                str(folder),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                # Whatever type the file has: the reference is the model in float32.
                model_kwargs={"dtype": torch.float32, "weights_only": True, "use_kernels": False},
            )
        except Exception as error:
            raise ExportError(f"{folder}: {load_problem(error, report.mismatched, checkpoint)}") from error
    if report.missing:
        raise ExportError(
            f"{folder}: its files lack {len(report.missing)} weights, {report.missing[0]} for one: "
            "the checkpoint is incomplete"
        )
    listed, loaded = [entry.name for entry in checkpoint.modules], [type(module).__name__ for module in model]
    if listed and (loaded[: len(listed)] != listed or not set(loaded[len(listed) :]) <= set(kind.added)):
        raise ExportError(f"{folder}: modules.json lists {listed}, loaded were {loaded}")
    return model


def check_modules(model: BaseModel, name: object, kind: ModelKind) -> None:
    """Refuse a loaded model, which errors call ``name``, with modules without an exact graph.

    Raises:
        UnsupportedModuleError: naming each.

    """
    if problems := [problem for module in model for problem in _problems(module, kind)]:
        raise UnsupportedModuleError(f"{name}: {'; '.join(problems)}")


def _problems(module: nn.Module, kind: ModelKind, *, within_router: bool = False) -> list[str]:
    # By its very class: a subclass may override forward, and with it the meaning.
    type_ = type(module)
    if isinstance(module, Router) and within_router:
        return ["another Router"]
    if type_ not in _SUPPORTED or type_.__name__ not in kind.names:
        return [f"module {type_.__module__}.{type_.__qualname__}"]
    if isinstance(module, Router):
        parts = (part for route in module.sub_modules.values() for part in route)
        return [f"in a Router {problem}" for part in parts for problem in _problems(part, kind, within_router=True)]
    # By getattr, for some of them are properties.
    settings = {key: getattr(module, key) for key in SETTINGS if hasattr(module, key)}
    if isinstance(activation := settings.get("activation_function"), nn.Module):
        settings["activation_function"] = f"{type(activation).__module__}.{type(activation).__qualname__}"
    return [f"module {type_.__name__}: {problem}" for problem in setting_problems(type_.__name__, settings, kind)]


def check_order(model: BaseModel, name: object, kind: ModelKind) -> None:
    """Refuse modules in a row that do not make an output of a text.

    Raises:
        ExportError: the tokenizer has no Rust form.
        UnsupportedModuleError: naming the modules.

    """
    first, *others = (type(module).__name__ for module in model)
    if first not in _FIRST or any(other in others for other in _FIRST):
        raise UnsupportedModuleError(
            f"{name}: the modules {', '.join((first, *others))} do not begin with one {' or '.join(_FIRST)}"
        )
    if first not in _WHOLE and kind.pooling not in (None, *others):
        raise UnsupportedModuleError(f"{name}: there is no Pooling among {', '.join((first, *others))}")
    if kind.pooling == "Pooling":
        try:
            features_of(model)
        except FeatureError as error:
            raise UnsupportedModuleError(f"{name}: {error}") from error
    if first == "StaticEmbedding":
        return
    if model.tokenizer is None or not getattr(model.tokenizer, "is_fast", False):
        raise ExportError(
            f"{name}: its tokenizer {type(model.tokenizer).__name__} is Python code and has no tokenizer.json form, so "
            "the Rust tokenizers cannot run it"
        )


@dataclass(frozen=True)
class _WeightReport:
    """The names of weights that transformers did not find, or found in another shape."""

    missing: list[str]
    mismatched: list[str]


@contextmanager
def _weight_reports(unused: Collection[str]) -> Iterator[_WeightReport]:
    """Collect the names of weights that transformers did not find and filled with random numbers.

    It says so in the report it logs and nowhere else. Those of modules named ``unused`` are left out.
    """
    found = _WeightReport([], [])
    reporter = logging.getLogger("transformers.modeling_utils")
    level, shown = reporter.level, reporter.getEffectiveLevel()

    def read(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        for name, status in _REPORT_ROW.findall(message):
            if set(unused).isdisjoint(name.split(".")):
                (found.missing if status == "MISSING" else found.mismatched).append(name)
        return "LOAD REPORT" not in message and record.levelno >= shown

    reporter.addFilter(read)
    # Below WARNING, from which on transformers also lists every layer as not sharded.
    reporter.setLevel(min(shown, logging.INFO))
    try:
        yield found
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
