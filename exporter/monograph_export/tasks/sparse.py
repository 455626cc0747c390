"""Export of sparse encoders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import UnsupportedModuleError
from monograph.tasks.sparse import SPARSE, SparseAgreement, SparseSection
from monograph_export.checkpoint.modules import ROUTER, ModelKind
from monograph_export.compression.options import ACTIVE_OVERLAP
from monograph_export.tasks.embedding import VectorExport

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from torch import nn

    from monograph_export.checkpoint.routes import RoutedModel

# Texts times tokens of a vocabulary: in torch a batch has a logit for each token of its texts and of the vocabulary.
# 16 texts of 256 tokens and 30,522 words take 500 MB, and as many of 250,002 words 4 GB.
_COMPARED_LOGITS = 500_000


class SparseExport(VectorExport):
    """Sparse encoders: an MLM head with SPLADE's pooling, or weights of tokens alone."""

    task = SPARSE
    kind = ModelKind(
        "SparseEncoder",
        # MLMTransformer is what its Transformer was called.
        ("Transformer", "MLMTransformer", "SpladePooling", "SparseStaticEmbedding", ROUTER),
        transformer_task="fill-mask",
        pooling="SpladePooling",
        unused_weights=("pooler",),
        truncation="max_active_dims",
    )
    limits = (*VectorExport.limits, ACTIVE_OVERLAP)
    requested_architectures = ("ForMaskedLM",)

    def check_route(self, model: BaseModel, name: object) -> None:
        """Refuse modules other than an MLM head with its pooling, or weights of tokens alone.

        Raises:
            ExportError: the tokenizer has no Rust form.
            UnsupportedModuleError: naming the modules.

        """
        from monograph_export.checkpoint.vocabulary_layers import check_mlm_head, has_transformer

        super().check_route(model, name)
        first, *others = (type(module).__name__ for module in model)
        expected = ["SpladePooling"] if has_transformer(model) else []
        if others != expected:
            raise UnsupportedModuleError(
                f"{name}: behind {first} come {', '.join(others) or 'no modules'} instead of "
                f"{', '.join(expected) or 'none'}"
            )
        if has_transformer(model):
            check_mlm_head(model, name)

    def describe_outputs(self, routed: RoutedModel, additional_outputs: Sequence[str] = ()) -> SparseSection:  # noqa: ARG002
        """Return the task's section of the manifest."""
        model: Any = routed.whole
        return SparseSection(self.dimension(routed), str(model.similarity_fn_name), model.max_active_dims)

    def _dimension(self, model: BaseModel) -> int:
        from monograph_export.checkpoint.vocabulary_layers import decoder_of, has_transformer, rows_of

        # SpladePooling knows only once it has seen logits.
        return int(decoder_of(model).out_features) if has_transformer(model) else rows_of(model)  # type: ignore[arg-type]

    def _batch_size(self, model: BaseModel) -> int:
        from monograph_export.checkpoint.vocabulary_layers import rows_of

        return max(1, min(super()._batch_size(model), _COMPARED_LOGITS // rows_of(model)))

    def graph_modules(self, model: BaseModel) -> AbstractContextManager[Sequence[nn.Module]]:
        """Give the modules with a pooling that computes the head; within, the transformer has no decoder."""
        from monograph_export.graph.splade import sparse_modules

        return sparse_modules(model)

    def compress_head(self, model: BaseModel) -> None:
        """Give the decoder of the MLM head int8 weights."""
        from monograph_export.compression.table import quantize_mlm_head

        quantize_mlm_head(model)

    def agreement(self, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> SparseAgreement:
        """Compare the sparse vectors of the same texts, float32 [n, d] each."""
        vectors = super().agreement(reference, outputs)
        return SparseAgreement(**asdict(vectors), active_overlap=active_overlap(reference, outputs))


SPARSE_EXPORT = TASK = SparseExport()


def active_overlap(reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
    """Return the share of dimensions, of those that are not 0 in either vector of a text, that are not 0 in both.

    The vectors are float32 [n, d]; the result is the mean over texts, of which those without an active one count 1.
    """
    either, both = (reference != 0) | (outputs != 0), (reference != 0) & (outputs != 0)
    shares = both.sum(axis=1) / np.maximum(either.sum(axis=1), 1)
    return float(np.where(either.any(axis=1), shares, 1.0).mean())
