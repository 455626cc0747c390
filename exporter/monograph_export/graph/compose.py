"""All modules of a Sentence Transformer as one function of tensors."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from monograph_export.graph.names import OUTPUT_NAME

# Inputs that a graph may have, in the order of its signature; those the tokenizer gives are used.
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


class SentenceGraph(nn.Module):
    """The modules of a model in a row, from token ids to ``sentence_embedding``.

    The modules are Sentence Transformers' own, so what is traced is the reference itself: its pooling, its
    numerics, its order.
    """

    def __init__(self, model: SentenceTransformer, input_names: Sequence[str]) -> None:
        super().__init__()
        self.module = nn.ModuleList(list(model))
        self.input_names = tuple(input_names)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map int64 [batch, sequence] tensors, in the order of ``input_names``, to float32 [batch, dimension]."""
        features: dict[str, Tensor] = dict(zip(self.input_names, inputs, strict=True))
        for module in self.module:
            features = module(features)
        return features[OUTPUT_NAME]


def used_inputs(features: dict[str, object]) -> tuple[str, ...]:
    """Return the names of the inputs that a model's tokenizer gives, in signature order."""
    return tuple(name for name in INPUT_NAMES if name in features)
