"""A tiny SPLADE encoder with random weights, as sentence-transformers saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import AutoConfig, AutoModelForMaskedLM

from support.checkpoints import TINY_BERT, wordpiece

# Of the probes' sentences, so that words are seldom unknown; the same as the rows of the table.
_TOKENS = 1000


def save_sparse_encoder(folder: Path, **options: Any) -> Path:
    """Save a masked language model with SPLADE's pooling behind it and return its folder."""
    settings = dict(TINY_BERT) | {"vocab_size": _TOKENS, "initializer_range": 0.2}
    torch.manual_seed(0)
    model: Any = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.float32
    )
    with torch.no_grad():
        # Most logits below zero: vectors of which few dimensions are not.
        model.cls.predictions.bias.add_(torch.randn(_TOKENS) * 0.3 - 2)
    model.save_pretrained(folder / "transformer")
    tokenizer = wordpiece(_TOKENS, lowercase=True)
    tokenizer.model_max_length = 96
    tokenizer.save_pretrained(folder / "transformer")
    body = Transformer(str(folder / "transformer"), transformer_task="fill-mask")
    encoder: Any = SparseEncoder(modules=[body, SpladePooling("max")], device="cpu", **options)
    encoder.save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"
