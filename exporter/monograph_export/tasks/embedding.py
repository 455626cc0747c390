"""Export of embedding models, and what all models of vectors have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from monograph.errors import ExportError
from monograph.quality import Agreement
from monograph.similarity import normalize, similarity_pairwise
from monograph.tasks.base import as_matrices
from monograph.tasks.embedding import (
    DENSE_PART,
    EMBEDDING,
    HYBRID_EMBEDDINGS,
    TOKEN_EMBEDDINGS,
    EmbeddingAgreement,
    EmbeddingSection,
    HybridSection,
    VectorAgreement,
)
from monograph_export.checkpoint.checkpoint import HYBRID_HEADS, Checkpoint
from monograph_export.checkpoint.features import features_of
from monograph_export.checkpoint.modules import ROUTER, SENTENCE_EMBEDDING, ModelKind
from monograph_export.compression.agreements import rank_correlation, token_agreement
from monograph_export.compression.options import (
    MEAN_COSINE,
    NEIGHBOUR_AGREEMENT,
    WORST_COSINE,
    CompressionOptions,
    Limit,
    Limits,
)
from monograph_export.compression.texts import Calibration, built_in_texts, held_out_texts, split_texts, texts_of
from monograph_export.probe_texts import probe_texts
from monograph_export.tasks.base import FROM_ONNX, PRUNING, RECIPE, ExportTask
from monograph_export.vocabulary.options import NamedTexts

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

    from monograph_export.checkpoint.routes import RoutedModel


class VectorExport(ExportTask[str]):
    """A task whose models make a vector of each text."""

    limits: ClassVar[Sequence[Limit]] = (MEAN_COSINE, WORST_COSINE, NEIGHBOUR_AGREEMENT)
    costs = "of the mean cosine"

    def probe_inputs(self, tokenizer: Tokenizer, max_length: int | None, spelled: Sequence[str]) -> list[str]:
        """Return the texts that a bundle is verified with."""
        return probe_texts(tokenizer, max_length, spelled)

    def _compute(self, model: BaseModel, inputs: list[str], batch_size: int, prompt: str) -> Any:
        with untruncated(model, self.kind):
            return model.encode(
                inputs, prompt=prompt, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True
            ).to_dense()

    def calibration(self, options: CompressionOptions, corpus: NamedTexts | None) -> Calibration[str]:
        """Return texts to calibrate with and held-out ones."""
        if options.calibration is not None:
            return texts_of(options.calibration)
        if corpus is None:
            return built_in_texts()
        split = split_texts if options.precision == "int8" else held_out_texts
        return split(corpus.texts, corpus.name)

    def agreement(self, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> VectorAgreement:
        """Compare the vectors of the same texts, float32 [n, d] each."""
        cosines = _cosines(reference, outputs)
        similarities, others = map(_similarities, (reference, outputs))
        pairs = np.triu_indices(len(cosines), k=1)
        spearman = rank_correlation(similarities[pairs], others[pairs]) if len(cosines) > 2 else 0.0
        np.fill_diagonal(similarities, -np.inf)
        np.fill_diagonal(others, -np.inf)
        return VectorAgreement(
            texts=len(cosines),
            mean_cosine=float(cosines.mean()),
            percentile_1_cosine=float(np.percentile(cosines, 1)),
            worst_cosine=float(cosines.min()),
            spearman=spearman,
            neighbour_agreement=float((similarities.argmax(axis=1) == others.argmax(axis=1)).mean()),
        )

    def cost(self, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
        """Return 1 - mean cosine."""
        return 1 - float(_cosines(reference, outputs).mean())

    def dimension(self, routed: RoutedModel) -> int:
        """Return the dimensions of a model's vectors before its own truncation.

        Raises:
            ExportError: its routes give vectors of different dimensions.

        """
        dimensions = {route: self._dimension(model) for route, model in routed.routes.items()}
        if len(set(dimensions.values())) != 1:
            raise ExportError(f"the routes give vectors of different dimensions: {dimensions}")
        return next(iter(dimensions.values()))

    def _dimension(self, model: BaseModel) -> int:
        # Not as the last module states it: that may write a feature that no one reads.
        return int(self.outputs(model, self.samples[:1]).shape[1])


class EmbeddingExport(VectorExport):
    """Embedding models."""

    task = EMBEDDING
    kind = ModelKind(
        "SentenceTransformer",
        ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "StaticEmbedding", ROUTER),
        transformer_task="feature-extraction",
        pooling="Pooling",
        # The pooler of BERT-like models is not used for sentence vectors, and many checkpoints do not have it.
        unused_weights=("pooler",),
        truncation="truncate_dim",
    )
    options = (PRUNING, RECIPE, FROM_ONNX)

    def default_outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Return ``hybrid_embeddings`` for a checkpoint of bge-m3's kind.

        Raises:
            ExportError: it has one of the two heads only.

        """
        heads = checkpoint.hybrid_heads
        if missing := [name for name in HYBRID_HEADS if heads and name not in heads]:
            raise ExportError(
                f"{checkpoint.folder} has {heads[0]} and no {missing[0]}: download that, or export only the vectors of "
                f"texts with --outputs {self.task.output}"
            )
        return (HYBRID_EMBEDDINGS,) if heads else ()

    def load(self, checkpoint: Checkpoint, additional_outputs: Sequence[str] = ()) -> RoutedModel:
        """Load a checkpoint, with its heads for ``hybrid_embeddings`` if that is one of the ``additional_outputs``.

        Raises:
            ExportError: the checkpoint is damaged, incomplete, or needs code of its own.
            UnsupportedModuleError: naming what has no exact graph.

        """
        routed = super().load(checkpoint, additional_outputs)
        if HYBRID_EMBEDDINGS in additional_outputs:
            from monograph_export.checkpoint.hybrid_heads import add_hybrid_head

            add_hybrid_head(routed.whole, checkpoint)
        return routed

    def describe_outputs(self, routed: RoutedModel, additional_outputs: Sequence[str] = ()) -> EmbeddingSection:
        """Return the task's section of the manifest."""
        model: Any = routed.whole
        return EmbeddingSection(
            dimension=self.dimension(routed),
            normalized=all(map(_normalizes, routed.routes.values())),
            similarity=str(model.similarity_fn_name),
            matryoshka_dimensions=(),
            truncate_dim=model.truncate_dim,
            hybrid=_hybrid_section(routed.whole) if HYBRID_EMBEDDINGS in additional_outputs else None,
            token_pooling="mean"
            if TOKEN_EMBEDDINGS in additional_outputs and all(map(_is_mean_of_tokens, routed.routes.values()))
            else None,
        )

    def compute_additional_output(
        self, model: BaseModel, inputs: Sequence[str], output: str, batch_size: int = 1
    ) -> NDArray[Any]:
        """Return an output of the tokens that Sentence Transformers gives for each text, objects [n]."""
        encoder: Any = model
        if output == HYBRID_EMBEDDINGS:
            batches = (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
            return as_matrices([matrix for batch in batches for matrix in _hybrid_embeddings(encoder, list(batch))])
        outputs = encoder.encode(
            list(inputs), prompt="", batch_size=batch_size, output_value=output, show_progress_bar=False
        )
        return as_matrices([np.asarray(tokens.float(), dtype=np.float32) for tokens in outputs])

    def with_token_agreements(
        self,
        agreement: Agreement,
        section: EmbeddingSection,
        reference: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
    ) -> Agreement:
        """Return the agreement with that of the weights and vectors of tokens, part by part of each output."""
        token_agreements = {}
        for output in reference:
            parts = (self.task.parts(section, output, values[output]) for values in (reference, outputs))
            for one, other in zip(*parts, strict=True):
                # The text's own vectors are compared already.
                if one.name != DENSE_PART:
                    token_agreements[one.name or output] = token_agreement(one, other)
        return EmbeddingAgreement(**vars(agreement), of_tokens=token_agreements) if token_agreements else agreement

    def violations(self, limits: Limits, agreement: Agreement) -> tuple[str, ...]:
        """Return in words which limits are violated, by the vectors of texts or by an output of tokens."""
        lines = list(super().violations(limits, agreement))
        token_agreements = agreement.of_tokens if isinstance(agreement, EmbeddingAgreement) else None
        if token_agreements:
            lines = [f"{line} ({DENSE_PART})" for line in lines]
        for name, one in (token_agreements or {}).items():
            figures = (MEAN_COSINE,) if one.neighbour_agreement is None else (MEAN_COSINE, NEIGHBOUR_AGREEMENT)
            lines += [f"{line} ({name})" for line in limits.only(figures).violations(one)]
        return tuple(lines)


EMBEDDING_EXPORT = TASK = EmbeddingExport()


@contextmanager
def untruncated(model: BaseModel, kind: ModelKind) -> Iterator[None]:
    """Have a model give its vectors as they leave the last module."""
    if kind.truncation is None:
        yield
        return
    truncation = getattr(model, kind.truncation)
    setattr(model, kind.truncation, None)
    try:
        yield
    finally:
        setattr(model, kind.truncation, truncation)


def _hybrid_embeddings(model: Any, texts: list[str]) -> list[NDArray[np.float32]]:
    """Return the output ``hybrid_embeddings`` of texts in a batch, each float32 [tokens, width]."""
    import torch

    with torch.inference_mode():
        features: dict[str, Any] = model(model.preprocess(texts))
    packed, mask = features[HYBRID_EMBEDDINGS].float().numpy(), features["attention_mask"].bool().numpy()
    return [matrix[is_token] for matrix, is_token in zip(packed, mask, strict=True)]


def _hybrid_section(model: BaseModel) -> HybridSection:
    from monograph_export.checkpoint.hybrid_heads import hybrid_section

    return hybrid_section(model)


def _normalizes(model: BaseModel) -> bool:
    return features_of(model)[SENTENCE_EMBEDDING].normalized


def _is_mean_of_tokens(model: BaseModel) -> bool:
    """Tell whether a text's vector is the mean of its tokens' vectors, normalized or not."""
    _, *others = model
    names = [type(module).__name__ for module in others if type(module).__name__ not in ("Dropout", "HybridHead")]
    pooling: Any = others[0] if names[:1] == ["Pooling"] else None
    if pooling is None or names[1:] not in ([], ["Normalize"]):
        return False
    modes = pooling.pooling_mode
    return modes in ("mean", ["mean"], ("mean",))


def _similarities(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of every two of some vectors, float32 [n, n] of [n, d].

    By torch, whose products are reproducible within an export: NumPy's differ with the number of threads, and a nearest
    neighbour that differs by a last bit would change which layers are quantized.
    """
    import torch

    rows = torch.from_numpy(normalize(vectors))
    with torch.inference_mode():
        return np.asarray((rows @ rows.t()).numpy())


def _cosines(reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each text's two vectors, float32 [n] of [n, d] each.

    Two vectors of zeros, as a sparse encoder has for a text in a language it does not know, are the same: 1.
    """
    same = ~reference.any(axis=1) & ~outputs.any(axis=1)
    return np.where(same, np.float32(1), similarity_pairwise("cosine", reference, outputs))
