"""Encoders as ONNX files, as optimum writes them: traced by torch's first exporter, axes dynamic."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _Encoder(nn.Module):
    """A transformer as a function of tensors: the vectors of its tokens, and their mean where requested."""

    def __init__(self, transformer: Path, inputs: Sequence[str], pooled: bool) -> None:
        super().__init__()
        # Written out: the first exporter does not know the fused attention's mask.
        self.model = AutoModel.from_pretrained(transformer, attn_implementation="eager", dtype=torch.float32).eval()
        self.inputs = tuple(inputs)
        self.pooled = pooled

    def forward(self, *values: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        tokens: Tensor = self.model(**dict(zip(self.inputs, values, strict=True))).last_hidden_state
        return (tokens, tokens.mean(dim=1)) if self.pooled else tokens


def save_encoder(
    transformer: Path,
    file: Path,
    *,
    opset: int = 14,
    inputs: Sequence[str] = INPUTS,
    outputs: Sequence[str] = ("last_hidden_state",),
    half: bool = False,
) -> Path:
    """Export a saved transformer as an ONNX file and return that; a second output is a pooled one."""
    model = _Encoder(transformer, inputs, pooled=len(outputs) > 1)
    sample = AutoTokenizer.from_pretrained(transformer)(["one text", "two"], padding=True, return_tensors="pt")
    axes = {0: "batch_size", 1: "sequence_length"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.half() if half else model,
            tuple(sample[name] for name in inputs),
            str(file),
            dynamo=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={**dict.fromkeys(inputs, axes), outputs[0]: axes},
        )
    return file
