"""Export of multi-vector encoders: ColBERT, in the layouts of Sentence Transformers, PyLate and Stanford."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import UnsupportedModuleError
from monograph.tasks.base import as_matrices, text_cosines
from monograph.tasks.multi_vector import MULTI_VECTOR, MultiVectorAgreement, MultiVectorSection
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.checkpoint.features import TOKEN_EMBEDDINGS, FeatureError, token_feature_of
from monograph_export.checkpoint.modules import ModelKind
from monograph_export.compression.agreements import maxsim_agreement
from monograph_export.compression.options import MEAN_COSINE, NEIGHBOUR_AGREEMENT
from monograph_export.tasks.embedding import VectorExport

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from torch import nn

    from monograph_export.checkpoint.routes import RoutedModel

# What checkpoints without modules.json name: Stanford's ColBERT.
_STANFORD = "HF_ColBERT"
_FORMER_TYPE = "ColBERT"
_MASK = "MultiVectorMask"


class MultiVectorExport(VectorExport):
    """Multi-vector encoders: a vector for each token, projected and normalized in the graph.

    Which tokens there are, and which of their vectors are returned, is up to the tokenizer of a role: one graph
    computes queries and documents.
    """

    task = MULTI_VECTOR
    kind = ModelKind(
        "MultiVectorEncoder",
        ("Transformer", "Dense", _MASK, "Normalize"),
        transformer_task="feature-extraction",
        unused_weights=("pooler",),
        carried=("query_length", "document_length", "query_expansion"),
        former_types=(_FORMER_TYPE,),
        added=(_MASK, "Normalize"),
    )
    limits = (MEAN_COSINE, NEIGHBOUR_AGREEMENT)
    architectures = (_STANFORD,)
    feature = TOKEN_EMBEDDINGS
    costs = "of the mean cosine of tokens"

    def detects(self, checkpoint: Checkpoint, *, requested: bool) -> bool:
        """Tell whether a checkpoint is PyLate's or Stanford's."""
        return checkpoint.settings.get("model_type") == _FORMER_TYPE or super().detects(checkpoint, requested=requested)

    def _prepare(self, model: BaseModel, name: object) -> RoutedModel:
        from monograph_export.checkpoint.length_dependence import settle_length_dependence
        from monograph_export.checkpoint.load import check_modules
        from monograph_export.checkpoint.loaded_tokenizer import mark_padding
        from monograph_export.checkpoint.positions import limit_length
        from monograph_export.checkpoint.roles import ROLES, RoleModel
        from monograph_export.checkpoint.routes import RoutedModel

        check_modules(model, name, self.kind)
        model = model.float().eval()
        model.requires_grad_(False)
        self.check_route(model, name)
        mark_padding(model)
        # That of texts without a role comes first.
        roles: dict[str | None, BaseModel] = {role: RoleModel.of(model, role) for role in ROLES}
        for part in roles.values():
            settle_length_dependence(part, name)
            limit_length(part, name, self.samples, self.task.inputs)
        # Without a role, Sentence Transformers truncates no text to the length of documents.
        is_document = roles["document"].max_seq_length == model.max_seq_length
        default = "document" if is_document else None
        return RoutedModel(model, roles, {role: role for role in ROLES}, default, shared=True)

    def check_route(self, model: BaseModel, name: object) -> None:
        """Refuse modules in a row that do not make vectors of tokens.

        Raises:
            ExportError: the tokenizer has no Rust form.
            UnsupportedModuleError: naming the modules.

        """
        super().check_route(model, name)
        try:
            token_feature_of(module for module in model if type(module).__name__ != _MASK)
        except FeatureError as error:
            raise UnsupportedModuleError(f"{name}: {error}") from error
        loaded: Any = model
        if loaded[0].query_expansion is not None:
            if loaded.tokenizer.padding_side != "right":
                raise UnsupportedModuleError(f"{name}: query_expansion of a tokenizer that pads on the left")
            if not any(type(module).__name__ == _MASK for module in model):
                raise UnsupportedModuleError(f"{name}: query_expansion without a {_MASK}")

    def describe_outputs(self, routed: RoutedModel, additional_outputs: Sequence[str] = ()) -> MultiVectorSection:  # noqa: ARG002
        """Return the task's section of the manifest."""
        model: Any = routed.whole
        modules = [module for module in model if type(module).__name__ != _MASK]
        return MultiVectorSection(
            self._dimension(routed.main), token_feature_of(modules).normalized, str(model.similarity_fn_name)
        )

    def finish_tokenizer(self, model: BaseModel, specification: TokenizerSpec) -> TokenizerSpec:
        """Return the manifest's entry of a role's tokenizer, with its expansion and the tokens that are left out."""
        from monograph_export.checkpoint.roles import expansion_of, skipped_ids_of

        role: Any = model
        skipped = tuple(id_ for id_ in skipped_ids_of(role) if 0 <= id_ < specification.vocabulary_size)
        return replace(specification, expansion=expansion_of(role), skipped_ids=skipped)

    def _compute(self, model: BaseModel, inputs: list[str], batch_size: int, prompt: str) -> Any:
        encoder: Any = model
        return encoder.encode(
            inputs,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            task=encoder.role,
        )

    def _as_outputs(self, outputs: Any, count: int) -> NDArray[Any]:  # noqa: ARG002 - a matrix for each input
        return as_matrices([np.asarray(matrix, dtype=np.float32) for matrix in outputs])

    def _dimension(self, model: BaseModel) -> int:
        return int(self.outputs(model, self.samples[:1])[0].shape[1])

    @contextmanager
    def graph_modules(self, model: BaseModel) -> Iterator[Sequence[nn.Module]]:
        """Give the modules without the mask, which the runtime applies to what the graph returns."""
        yield [module for module in model if type(module).__name__ != _MASK]

    def agreement(self, reference: NDArray[Any], outputs: NDArray[Any]) -> MultiVectorAgreement:
        """Compare the token vectors of the same texts, objects [n] each."""
        cosines = np.nan_to_num(text_cosines(outputs, reference), nan=-1.0)
        spearman, neighbours = maxsim_agreement(reference, outputs)
        return MultiVectorAgreement(
            texts=len(cosines),
            mean_cosine=float(cosines.mean()),
            percentile_1_cosine=float(np.percentile(cosines, 1)),
            worst_cosine=float(cosines.min()),
            spearman=spearman,
            neighbour_agreement=neighbours,
        )

    def cost(self, reference: NDArray[Any], outputs: NDArray[Any]) -> float:
        """Return 1 - mean cosine."""
        return 1 - float(text_cosines(outputs, reference).mean())


MULTI_VECTOR_EXPORT = TASK = MultiVectorExport()
