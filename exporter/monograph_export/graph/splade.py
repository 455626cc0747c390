"""SPLADE's head and pooling a part of the vocabulary at a time, and the weights of tokens that are there.

Sentence Transformers computes a logit for each token of the text and of the vocabulary, and pools these: 1 GB for 32
texts of 256 tokens and 30,522 words. Here a part of the vocabulary is pooled before the next part is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from torch import Tensor, nn

from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING
from monograph_export.checkpoint.vocabulary_layers import without_decoder
from monograph_export.compression.int8 import Int8Linear

# Tokens of a part. As fast as all at once at float32, and 8 % faster at bfloat16; 1,024 are no faster
# (docs/performance.md).
PART_TOKENS = 2048


class PartwiseSpladePooling(nn.Module):
    """SpladePooling of the logits that a decoder makes, part by part of the vocabulary.

    With the largest value of a text, bias and activations, which change no order, are taken of it and not of every
    logit. What pads a text is then one more of its first token; in a sum it counts nothing.
    """

    bias: Tensor

    def __init__(self, decoder: nn.Linear | Int8Linear, pooling: SpladePooling) -> None:
        super().__init__()
        starts = range(0, decoder.out_features, PART_TOKENS)
        self.parts = nn.ModuleList([_without_bias(decoder, slice(start, start + PART_TOKENS)) for start in starts])
        dtype = decoder.weight.dtype if isinstance(decoder, nn.Linear) else torch.float32
        none = torch.zeros(decoder.out_features, dtype=dtype)
        self.register_buffer("bias", none if decoder.bias is None else decoder.bias.detach().clone())
        self.largest = pooling.pooling_strategy == "max"
        self.logarithms = {"relu": 1, "log1p_relu": 2}[pooling.activation_function]

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add ``sentence_embedding``, float32 [batch, vocabulary], of hidden states [batch, sequence, hidden]."""
        # The weights' type: of float16 ones the product is one of float16, as it is where nothing is parted.
        hidden = features["token_embeddings"].to(self.bias.dtype)
        pooled = self._largest if self.largest else self._sum
        return features | {SENTENCE_EMBEDDING: pooled(hidden, features["attention_mask"])}

    def _largest(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.where(mask.unsqueeze(-1).bool(), hidden, hidden[:, :1])
        logits = torch.cat([part(hidden).amax(dim=1) for part in self.parts], dim=1) + self.bias
        # A text without any token has nothing but zeros.
        return self._activated(logits) * mask[:, :1]

    def _sum(self, hidden: Tensor, mask: Tensor) -> Tensor:
        counted, biases = mask.unsqueeze(1).float(), torch.split(self.bias, PART_TOKENS)
        sums = [
            torch.matmul(counted, self._activated(part(hidden) + bias))
            for part, bias in zip(self.parts, biases, strict=True)
        ]
        return torch.cat(sums, dim=2).squeeze(1)

    def _activated(self, logits: Tensor) -> Tensor:
        values = logits.float().relu()
        for _ in range(self.logarithms):
            values = values.log1p()
        return values


class PresentTokenWeights(nn.Module):
    """A SparseStaticEmbedding of padded texts: the weight of each token that is in a text."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add ``sentence_embedding``, float32 [batch, vocabulary], of int64 ``input_ids`` [batch, sequence]."""
        ids, mask = features["input_ids"], features["attention_mask"].float()
        present = torch.zeros(ids.shape[0], len(self.weight)).scatter_reduce(1, ids, mask, "amax")
        return features | {SENTENCE_EMBEDDING: present * self.weight}


@contextmanager
def sparse_modules(model: BaseModel) -> Iterator[list[nn.Module]]:
    """Give the modules of a sparse encoder as they are traced; within, its transformer has no decoder."""
    first, *others = model
    if isinstance(first, SparseStaticEmbedding):
        yield [PresentTokenWeights(first.weight.detach())]
        return
    with without_decoder(model) as decoder:
        if not isinstance(decoder, (nn.Linear, Int8Linear)):
            raise TypeError(f"a decoder is linear, not a {type(decoder).__name__}")
        yield [first, *(PartwiseSpladePooling(decoder, module) for module in others)]


def _without_bias(decoder: nn.Linear | Int8Linear, tokens: slice) -> nn.Module:
    """Return a layer of some of a decoder's outputs; of a linear one it has the same memory."""
    if isinstance(decoder, Int8Linear):
        part = decoder.part(tokens)
        part.bias = None
        return part
    weight = decoder.weight.detach()[tokens]
    linear = nn.Linear(decoder.in_features, len(weight), bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear
