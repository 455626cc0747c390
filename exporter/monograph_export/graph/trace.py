"""Trace the composed model into an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.optimizer import optimize_ir
from sentence_transformers.base.model import BaseModel
from transformers import PreTrainedModel

from monograph.bundle.manifest import GRAPH_INPUTS
from monograph.errors import ExportError
from monograph_export.foreign_errors import innermost, is_out_of_memory, plain_line
from monograph_export.graph.compose import ModelGraph, sample_inputs
from monograph_export.tasks.base import ExportTask

# The first opset with Attention as one standard op.
OPSET = 23
# Of an output with a vector for each token.
_TOKEN_RANK = 3
_LOGGERS = (
    "torch",
    "torch.onnx",
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
    "onnxscript",
    "transformers",
)
# In torch's messages: an operator that it has no translation of, and where a model's code calls what it cannot trace.
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")
# What classifiers of decoders say to a batch.
_NO_PADDING = "if no padding token is defined"
_PLACE = re.compile(r'File "([^"]+)", line (\d+)')


def trace(model: BaseModel, task: ExportTask[Any], additional_outputs: Sequence[str] = ()) -> ir.Model:
    """Return the model as one graph: token ids in, the task's output out, batch and sequence dynamic.

    ``additional_outputs`` are features of the modules that are outputs after it.

    Raises:
        ExportError: torch cannot trace the model.

    """
    inputs = sample_inputs(model, task.samples)
    with task.graph_modules(model) as modules:
        composed = ModelGraph(modules, list(inputs), (task.feature, *additional_outputs))
        graph = _trace(composed, inputs, [task.task.output, *additional_outputs])
    # Not by torch's option, which goes on to fuse operators: its RotaryEmbedding shares one table of positions among
    # the texts of a batch, which ONNX Runtime 1.31 refuses (onnxscript 0.7).
    optimize_ir(graph, should_fold=_may_fold)
    _name_axes(graph)
    return graph


def _trace(composed: ModelGraph, inputs: dict[str, torch.Tensor], outputs: list[str]) -> ir.Model:
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet() as printed:
        try:
            program = torch.onnx.export(
                composed.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=outputs,
                # forward takes *inputs: one tuple for all of them.
                dynamic_shapes=(tuple(axes for _ in inputs),),
                optimize=False,
                verify=False,
                verbose=False,
            )
        except Exception as error:
            # Where --debug shows it, behind the traceback of torch's error.
            error.add_note(printed.getvalue())
            raise ExportError(f"torch cannot trace {_title(composed)}: {_cause(error)}") from error
    if program is None:
        raise ExportError("torch returned no program")
    return program.model


def _title(composed: ModelGraph) -> str:
    """Return the class of what is traced: that of transformers, of which the others are Sentence Transformers' own."""
    transformers = [type(module).__name__ for module in composed.modules() if isinstance(module, PreTrainedModel)]
    return next(iter(transformers), "the model")


def _cause(error: Exception) -> str:
    """Return in one line what could not be traced, and what to do."""
    if is_out_of_memory(error):
        return "there is not enough memory: close other programs, or use a larger machine"
    cause = innermost(error)
    if _NO_PADDING in str(cause):
        return (
            "its config.json has no pad_token_id, by which it finds the last token of a text: set that to the id of "
            "the tokenizer's padding token"
        )
    operator = _NO_OPERATOR.search(str(cause))
    reason = f"ONNX has no form of its operator {operator[1]}" if operator else plain_line(cause)
    # Whatever torch adds of the operators that it has tried.
    reason = reason.partition(" Tried overloads")[0]
    # The last is the innermost; the first may be this package's.
    places = [PurePath(file) for file, _ in _PLACE.findall(str(cause))]
    models = [file.name for file in places if "transformers" in file.parts]
    where = f" ({models[-1]})" if models else ""
    advice = "the architecture needs another version of transformers or torch, or an ONNX file with --from-onnx"
    return f"{reason.removesuffix('.')}{where}: {advice}"


def _may_fold(node: ir.Node) -> bool | None:
    """Return False where a layer's weights are transposed, None to leave the choice to the optimizer.

    torch has weights as [out, in], which is how OpenVINO wants them: transposed in the file it would transpose them
    back, into a copy that it keeps beside the packed one. ONNX Runtime packs them either way, as long as it does not
    fold the Transpose itself (``monograph.engines.onnxruntime``).
    """
    weights = node.inputs[0] if node.op_type == "Transpose" else None
    return False if weights is not None and weights.is_initializer() else None


def _name_axes(model: ir.Model) -> None:
    """Give the dynamic axes of inputs and outputs their names; torch numbers them."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            raise ExportError(f"{value.name} has no shape in the traced graph")
        per_token = value.name in GRAPH_INPUTS or len(value.shape) == _TOKEN_RANK
        names = ("batch", "sequence") if per_token else ("batch",)
        value.shape = ir.Shape([*names, *list(value.shape)[len(names) :]])


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep the exporter's advice to developers of torch away from the user, and give what it printed."""
    printed = io.StringIO()
    loggers: list[Any] = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # Of a program that it cannot trace, torch prints all of the graph.
        with warnings.catch_warnings(), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            yield printed
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
