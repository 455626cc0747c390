"""All modules of a Sentence Transformer, a cross-encoder or a sparse encoder as one function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from torch import Tensor, nn

from monograph.bundle.manifest import GRAPH_INPUTS, POOLING_MASK
from monograph_export.checkpoint.loaded_tokenizer import pools_without_prompt
from monograph_export.checkpoint.routes import VectorModel
from monograph_export.compression.int8 import Int8Bag
from monograph_export.output_names import OUTPUT_NAME

# Axes of size 0 or 1 would be taken for constants, so the sample has three texts of different length.
_SAMPLE = ("one short text", "another text, which is a little longer", "a third")


class ModelGraph(nn.Module):
    """The modules of a model in a row, from token ids to one of the features that they leave.

    The modules are Sentence Transformers' own, so what is traced is the reference itself: its pooling, its
    numerics, its order. Some have a form that a graph can have, or that needs less memory there (``_graph_form``,
    ``splade``).
    """

    def __init__(self, modules: Sequence[nn.Module], input_names: Sequence[str], feature: str) -> None:
        super().__init__()
        self.module = nn.ModuleList([_graph_form(module) for module in modules])
        self.input_names = tuple(input_names)
        self.feature = feature

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map int64 [batch, sequence] tensors, in the order of ``input_names``, to float32 [batch, width]."""
        features: dict[str, Tensor] = dict(zip(self.input_names, inputs, strict=True))
        for module in self.module:
            features = module(features)
        return features[self.feature]


class PromptlessPooling(Pooling):  # type: ignore[misc]
    """Pooling over the tokens of ``pooling_mask`` instead of those behind the first so many of a prompt.

    Everything else is Sentence Transformers' own: positions are weighted as without a prompt, for example. By methods
    that it does not document, as they are in 6.2: the probes with a prompt would notice others.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__(pooling.embedding_dimension, pooling.pooling_mode, include_prompt=False)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add ``sentence_embedding``, [batch, dimension], of ``token_embeddings``, [batch, sequence, hidden]."""
        tokens, mask = features["token_embeddings"], features["attention_mask"]
        pooled = self._forward_padded(tokens, mask, features, prompt_length=_Pooled(features[POOLING_MASK]))
        return features | {OUTPUT_NAME: torch.cat(pooled, dim=-1)}

    @staticmethod
    def _exclude_prompt_from_mask(attention_mask: Tensor, prompt_length: _Pooled) -> Tensor:
        return attention_mask * prompt_length.mask


@dataclass(frozen=True)
class _Pooled:
    """Stands where Pooling has the length of a prompt."""

    mask: Tensor


class MeanOfRows(nn.Module):
    """A StaticEmbedding of padded texts: the mean of the embeddings of a text's tokens, zeros for none."""

    def __init__(self, bag: nn.EmbeddingBag | Int8Bag) -> None:
        super().__init__()
        self.table = (
            bag.table
            if isinstance(bag, Int8Bag)
            else nn.Embedding(bag.num_embeddings, bag.embedding_dim, _weight=bag.weight)
        )

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add ``sentence_embedding``, [batch, hidden], of int64 ``input_ids`` [batch, sequence]."""
        kept = features["attention_mask"].unsqueeze(-1).float()
        total = (self.table(features["input_ids"]) * kept).sum(dim=1)
        return features | {OUTPUT_NAME: total / kept.sum(dim=1).clamp(min=1)}


def _graph_form(module: nn.Module) -> nn.Module:
    if isinstance(module, StaticEmbedding):
        return MeanOfRows(module.embedding)
    if isinstance(module, Pooling) and not module.include_prompt:
        return PromptlessPooling(module)
    return module


def sample_inputs(model: VectorModel) -> dict[str, Tensor]:
    """Return inputs to trace a model with, int64 [batch, sequence], by name in the order of the signature."""
    if isinstance(model[0], StaticEmbedding):
        ids = torch.tensor([[1, 2, 0, 0], [3, 4, 5, 6], [7, 8, 9, 0]]) % model[0].num_embeddings
        features = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])}
    else:
        features = dict(model.preprocess(list(_SAMPLE)))
    if isinstance(model[0], SparseStaticEmbedding):
        features = {name: features[name] for name in ("input_ids", "attention_mask")}
    if pools_without_prompt(model):
        features[POOLING_MASK] = features["attention_mask"].clone()
        features[POOLING_MASK][:, 0] = 0
    return {name: features[name] for name in GRAPH_INPUTS if name in features}


def sample_pairs(model: CrossEncoder) -> dict[str, Tensor]:
    """Return inputs to trace a cross-encoder with, int64 [batch, sequence], by name in the order of the signature."""
    features = model.preprocess([(text, _SAMPLE[0]) for text in _SAMPLE])
    return {name: features[name] for name in GRAPH_INPUTS if name in features}
