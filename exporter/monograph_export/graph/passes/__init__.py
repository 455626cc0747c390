"""Exact rewrites of the traced graph, one file each, with numbered rules."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from monograph_export.graph.passes.anonymize import Anonymize
from monograph_export.graph.passes.attention import DecomposeAttention
from monograph_export.graph.passes.first_token import SelectFirstTokenEarly
from monograph_export.graph.passes.folding import FoldConstants
from monograph_export.graph.passes.fused_attention import FuseAttention
from monograph_export.graph.passes.padding_mask import SharePaddingMask
from monograph_export.graph.passes.reshape import ConstantReshapes

__all__ = ["apply_passes", "fused_for_gpus"]


def apply_passes(model: ir.Model) -> ir.Model:
    """Apply every exact pass and return the model.

    The order matters: SelectFirstTokenEarly recognizes attention as DecomposeAttention writes it, with the constant
    shapes of ConstantReshapes and a mask that SharePaddingMask made the same for every query.
    """
    passes = ir.passes.Sequential(
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
    return passes(model).model


def fused_for_gpus(model: ir.Model) -> ir.Model | None:
    """Return a copy of a model after ``apply_passes`` with the operator that GPUs have fast kernels for, if it can.

    The weights are those of the model, and are there once. None where no attention can be fused.
    """
    copied = model.clone()
    if not FuseAttention()(copied).modified:
        return None
    return common.RemoveUnusedNodesPass()(copied).model
