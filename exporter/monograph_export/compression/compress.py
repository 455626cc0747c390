"""Compress a model as requested, and refuse what costs too much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic

from sentence_transformers.base.model import BaseModel

from monograph.errors import ExportError
from monograph.inputs import InputT
from monograph.progress import SILENT, Progress
from monograph.quality import CompressionReport, LayersReport
from monograph_export.compression.float16 import halve
from monograph_export.compression.gate import Gate, HeldOutOutputs
from monograph_export.compression.int8 import REDUCED_WEIGHT_LEVELS, WEIGHT_LEVELS
from monograph_export.compression.int8_weights import quantize_weights
from monograph_export.compression.layers import LayerQuantizer
from monograph_export.compression.options import CompressionOptions
from monograph_export.compression.table import compress_table, has_large_table, has_plain_table
from monograph_export.compression.texts import Calibration
from monograph_export.tasks.base import ExportTask, check_finite

# Layers that an error names.
_NAMED = 5
# Fewer texts than this show too little of a layer's inputs to set their range.
_ENOUGH_TEXTS = 100
# With fewer, nearest neighbours and worst cosines say nothing.
_MIN_TEXTS = 20


@dataclass(frozen=True)
class Compressed(Generic[InputT]):
    """What was done to a model, and the original's outputs for the held-out inputs of the gate."""

    table: str
    layers: LayersReport | None
    gate: Gate[InputT]
    reference: HeldOutOutputs

    @property
    def decided(self) -> CompressionReport:
        """What the manifest says of it, which is known before anything is measured with an engine."""
        return CompressionReport(self.table, self.gate.limits.to_json(), None, self.layers)

    def report(self, outputs: HeldOutOutputs) -> CompressionReport:
        """Return what was decided and measured, where ``outputs`` are the bundle's for the held-out inputs.

        Raises:
            ExportError: they are further from the original's than the limits allow.

        """
        agreement = self.gate.agreement(self.reference, outputs)
        if violations := self.gate.violations(agreement):
            raise ExportError(
                f"on ONNX Runtime the compressed model is too far from the original: {', '.join(violations)}"
            )
        return replace(self.decided, agreement=agreement)


def compress(
    model: BaseModel,
    options: CompressionOptions,
    inputs: Calibration[InputT],
    gate: Gate[InputT],
    progress: Progress = SILENT,
) -> Compressed[InputT] | None:
    """Compress a model in place, or return None where nothing is to be done; its steps are reported to ``progress``.

    ``gate`` has the held-out part of ``inputs``.

    Raises:
        ExportError: the result is further from the original than the limits allow, or a module cannot be int8.

    """
    int8_layers = options.precision == "int8"
    int8_table, task = options.table == "int8", gate.task
    if options.table is None:
        int8_table = _is_int8_by_default(model, task, int8_layers=options.precision in ("int8", "int8-weights"))
    if not int8_table and options.precision == "fp32":
        return None
    _check_enough(inputs, int8_layers=int8_layers)
    with progress.step("Computing the original's outputs", gate.computed, task.task.inputs) as step:
        reference = gate.outputs_of_model(model, step)
    for outputs in (reference.main, *reference.additional.values()):
        check_finite(outputs)
    layers = _reduce_layers(model, options, inputs, task, progress)
    if int8_table:
        with progress.step("Quantizing the table of token embeddings"):
            compress_table(model)
    quantizer = None
    if int8_layers:
        levels = REDUCED_WEIGHT_LEVELS if options.reduce_range else WEIGHT_LEVELS
        quantizer = LayerQuantizer(model, inputs.calibration, levels, task, progress)
        quantizer.quantize()
    if int8_table:
        task.compress_head(model)
    violations = _violations(model, gate, reference, progress)
    if violations and quantizer is not None:
        quantizer.quantize(token_ranges=True)
        violations = _violations(model, gate, reference, progress)
    if violations:
        raise ExportError(_refusal(violations, quantizer, inputs, reference, task))
    if quantizer is not None:
        layers = _int8_report(quantizer, inputs, options)
    table = "int8" if int8_table else "fp16" if options.precision == "fp16" else "fp32"
    return Compressed(table, layers, gate, reference)


def _reduce_layers(
    model: BaseModel,
    options: CompressionOptions,
    inputs: Calibration[InputT],
    task: ExportTask[InputT],
    progress: Progress,
) -> LayersReport | None:
    """Make the layers smaller at a precision that needs no calibration; return None at any other."""
    if options.precision == "fp16":
        halve(model)
        return LayersReport("fp16")
    if options.precision == "int8-weights":
        with progress.step("Quantizing the weights of the layers"):
            quantize_weights(model, inputs.held_out[0], task.feature)
        return LayersReport("int8-weights")
    return None


def _violations(model: BaseModel, gate: Gate[InputT], reference: HeldOutOutputs, progress: Progress) -> tuple[str, ...]:
    """Return in words which limits the compressed model violates on the held-out inputs."""
    with progress.step("Measuring the compressed model", gate.computed, gate.task.task.inputs) as step:
        return gate.violations(gate.agreement(reference, gate.outputs_of_model(model, step)))


def _int8_report(
    quantizer: LayerQuantizer[InputT], inputs: Calibration[InputT], options: CompressionOptions
) -> LayersReport:
    return LayersReport(
        precision="int8",
        calibration=inputs.origin,
        calibration_inputs=len(inputs.calibration),
        reduce_range=options.reduce_range,
        token_ranges=quantizer.token_ranges,
    )


def _is_int8_by_default(model: BaseModel, task: ExportTask[Any], *, int8_layers: bool) -> bool:
    """Return whether a table is int8 where nothing else is requested."""
    is_large = task.int8_for_large_tables and has_large_table(model)
    return (int8_layers or is_large) and has_plain_table(model)


def _check_enough(inputs: Calibration[InputT], *, int8_layers: bool) -> None:
    """Refuse to measure with next to nothing, where a pruned vocabulary has left nearly no text."""
    if not inputs.held_out:
        raise ExportError(
            "none of the built-in texts can be written with the retained tokens, so what the compression costs cannot "
            "be measured: give texts of these scripts with --keep-vocab FILE as well"
        )
    if int8_layers and inputs.reduced and min(len(inputs.calibration), len(inputs.held_out)) < _MIN_TEXTS:
        raise ExportError(
            f"int8 layers have only {inputs.origin} to calibrate with and {len(inputs.held_out)} held out: give "
            "--calibration FILE with a few hundred texts of the retained scripts"
        )


def _refusal(
    violations: tuple[str, ...],
    quantizer: LayerQuantizer[InputT] | None,
    inputs: Calibration[InputT],
    reference: HeldOutOutputs,
    task: ExportTask[InputT],
) -> str:
    parts = [f"compressed, the model is too far from the original: {', '.join(violations)}"]
    if quantizer is None:
        return "; ".join([*parts, "choose --precision fp32 and --table fp32"])
    costs = list(quantizer.costs(inputs.held_out, reference.main).items())[:_NAMED]
    layers = (f"{'/'.join(quantizer.groups[position].originals)} {cost:.4f}" for position, cost in costs)
    # Of outputs of tokens they are not measured.
    measured = f"{task.costs} of {task.task.output}" if reference.additional else task.costs
    parts.append(f"the layers that cost most {measured}, each by itself: {', '.join(layers)}")
    noun = task.task.inputs
    if len(inputs.calibration) < _ENOUGH_TEXTS:
        parts.append(
            f"it was calibrated with {inputs.origin}, too few to set the ranges of layers: give a few hundred "
            f"{noun} of the kind that will be {task.used}, or leave --calibration out"
        )
    else:
        parts.append(f"calibrate with {noun} nearer to those that will be {task.used}, or choose --precision fp32")
    return "; ".join(parts)
