"""Tiny models of bge-m3's kind: XLM-R with CLS pooling, and the linear layers of token weights and token vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from support.architectures import ARCHITECTURES
from support.checkpoints import build_model, save_transformer

MAX_LENGTH = 64


def save_hybrid(
    folder: Path,
    *,
    dimension: int = 24,
    config: Mapping[str, Any] | None = None,
    max_length: int = MAX_LENGTH,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Save a checkpoint in bge-m3's layout and return its folder; ``dimension`` is that of tokens' vectors."""
    spec = ARCHITECTURES["XLM-R"]
    body = save_transformer({**spec.config, **(config or {})}, spec.tokenizer(), folder / "transformer")
    model = build_model(body, max_length=max_length, pooling="cls")
    model.save(str(folder / "checkpoint"), create_model_card=False)
    width = model[0].get_embedding_dimension()
    torch.manual_seed(2)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", dimension)):
        layer = nn.Linear(width, rows).to(dtype)
        torch.save(layer.state_dict(), folder / "checkpoint" / f"{name}.pt")
    return folder / "checkpoint"
