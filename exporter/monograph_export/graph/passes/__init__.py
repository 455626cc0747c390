"""Exact rewrites of the traced graph, one file each, with numbered rules."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from monograph.progress import SILENT, Progress
from monograph_export.graph.passes.anonymize import Anonymize
from monograph_export.graph.passes.attention import DecomposeAttention
from monograph_export.graph.passes.first_token import SelectFirstTokenEarly
from monograph_export.graph.passes.folding import FoldConstants
from monograph_export.graph.passes.fused_attention import FuseAttention
from monograph_export.graph.passes.padding_mask import SharePaddingMask
from monograph_export.graph.passes.reshape import ConstantReshapes

__all__ = ["apply_passes", "fused_for_gpus"]


def apply_passes(model: ir.Model, progress: Progress = SILENT) -> ir.Model:
    """Apply every exact pass and return the model; it is one step of ``progress``.

    The order matters: SelectFirstTokenEarly recognizes attention as DecomposeAttention writes it, with the constant
    shapes of ConstantReshapes and a mask that SharePaddingMask made the same for every query.
    """
    passes: tuple[ir.passes.PassBase, ...] = (
        FoldConstants(),
        DecomposeAttention(),
        SharePaddingMask(),
        ConstantReshapes(),
        SelectFirstTokenEarly(),
        common.ClearMetadataAndDocStringPass(),
        Anonymize(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
    )
    with progress.step("Rewriting the graph", len(passes), "passes") as step:
        for one in passes:
            model = one(model).model
            step.advance()
    return model


def fused_for_gpus(model: ir.Model) -> ir.Model | None:
    """Return a copy of a model after ``apply_passes`` with the operator that GPUs have fast kernels for, if it can.

    The weights are those of the model, and are there once. None where no attention can be fused.
    """
    copied = model.clone()
    if not FuseAttention()(copied).modified:
        return None
    return common.RemoveUnusedNodesPass()(copied).model
