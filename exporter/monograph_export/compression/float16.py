"""Give a transformer weights and products of float16, and leave what comes after it in float32."""

from __future__ import annotations

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn


def halve(model: BaseModel) -> None:
    """Turn a model's transformer into float16.

    Pooling's sums over tokens and the squares of a norm may pass 65,504, beyond which float16 is infinite, so the token
    embeddings are widened before them. Inside, norms are computed in float32 (stash_type of LayerNormalization; models
    with RMS norms widen by themselves), and a softmax takes the largest value off first.
    """
    transformer = model[0]
    # Not half(), which takes the tables of rotary positions as well: 1 - cosine of ModernBERT at 2,000 tokens was then
    # 7e-3 instead of 4e-5.
    for parameter in transformer.auto_model.parameters():
        parameter.data = parameter.data.half()
    transformer.register_forward_hook(_widened)


def _widened(_module: nn.Module, _inputs: tuple[object, ...], features: dict[str, object]) -> dict[str, object]:
    return {name: _float32(value) for name, value in features.items()}


def _float32(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value
