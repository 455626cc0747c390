"""Exact rewrites of the traced graph, one file each, with numbered rules that the tests cite."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from monograph_export.graph.passes.anonymize import Anonymize
from monograph_export.graph.passes.attention import DecomposeAttention
from monograph_export.graph.passes.first_token import SelectFirstTokenEarly
from monograph_export.graph.passes.padding_mask import SharePaddingMask
from monograph_export.graph.passes.reshape import ConstantReshapes

__all__ = ["apply_passes"]


def apply_passes(model: ir.Model) -> ir.Model:
    """Apply every exact pass and return the model.

    The order matters: SelectFirstTokenEarly recognises attention as DecomposeAttention writes it, with the constant
    shapes of ConstantReshapes and a mask that SharePaddingMask made the same for every query.
    """
    passes = ir.passes.Sequential(
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
