"""All modules of a Sentence Transformer, a cross-encoder or a sparse encoder as one function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from torch import Tensor, nn

from monograph.bundle.manifest import GRAPH_INPUTS, POOLING_MASK
from monograph.inputs import Input
from monograph_export.checkpoint.loaded_tokenizer import pools_without_prompt
from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING
from monograph_export.compression.int8 import Int8Bag


class ModelGraph(nn.Module):
    """The modules of a model in a row, from token ids to some of the features that they leave.

    The modules are Sentence Transformers' own, so what is traced is the reference itself: its pooling, its
    numerics, its order. Some are replaced by equal ones that can be traced, or that need less memory
    (``_traceable``, ``splade``).
    """

    def __init__(self, modules: Sequence[nn.Module], input_names: Sequence[str], features: Sequence[str]) -> None:
        super().__init__()
        self.module = nn.ModuleList([_traceable(module) for module in modules])
        self.input_names = tuple(input_names)
        self.features = tuple(features)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Map int64 [batch, sequence] tensors, in the order of ``input_names``, to the features.

        Those of texts are float32 [batch, width], those of tokens [batch, sequence, width].
        """
        features: dict[str, Tensor] = dict(zip(self.input_names, inputs, strict=True))
        for module in self.module:
            features = module(features)
        return tuple(features[name] for name in self.features)


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
        return features | {SENTENCE_EMBEDDING: torch.cat(pooled, dim=-1)}

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
        mask = features["attention_mask"].unsqueeze(-1).float()
        total = (self.table(features["input_ids"]) * mask).sum(dim=1)
        return features | {SENTENCE_EMBEDDING: total / mask.sum(dim=1).clamp(min=1)}


def _traceable(module: nn.Module) -> nn.Module:
    if isinstance(module, StaticEmbedding):
        return MeanOfRows(module.embedding)
    if isinstance(module, Pooling) and not module.include_prompt:
        return PromptlessPooling(module)
    return module


def sample_inputs(model: BaseModel, samples: Sequence[Input]) -> dict[str, Tensor]:
    """Return three texts or pairs to trace a model with, int64 [3, sequence], by name in the order of the signature."""
    if isinstance(model[0], StaticEmbedding):
        ids = torch.tensor([[1, 2, 0, 0], [3, 4, 5, 6], [7, 8, 9, 0]]) % model[0].num_embeddings
        features = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])}
    else:
        features = dict(model.preprocess(list(samples)))
        # A padding token may have an id past the table, where the runtime pads with 0.
        features["input_ids"] = features["input_ids"] * features["attention_mask"]
    if isinstance(model[0], SparseStaticEmbedding):
        features = {name: features[name] for name in ("input_ids", "attention_mask")}
    if pools_without_prompt(model):
        features[POOLING_MASK] = features["attention_mask"].clone()
        features[POOLING_MASK][:, 0] = 0
    return {name: features[name] for name in GRAPH_INPUTS if name in features}
