"""Haystack: components that embed a query, embed documents, and rank documents."""
# mypy: disable-error-code="import-not-found, untyped-decorator"
# Annotations are not postponed: Haystack reads the types of a component's inputs from them.

import dataclasses
from collections.abc import Callable
from typing import Any, Generic

from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.inputs import check_count
from monograph.integrations.frameworks import (
    BundlePath,
    LazyModel,
    ModelT,
    absolute,
    check_query,
    check_texts_of,
    missing,
    open_cross_encoder,
    open_embedder,
)

try:
    from haystack import Document, component, default_to_dict
except ImportError as error:
    raise missing("haystack-ai", error) from error


class _Opening(Generic[ModelT]):
    """What the components share: a bundle that ``warm_up`` or the first run opens."""

    model: ModelT | BundlePath
    device: str | None

    def _take(
        self, model: ModelT | BundlePath, device: str | None, open_model: Callable[[Any, str | None], ModelT]
    ) -> None:
        self.model: ModelT | BundlePath = absolute(model)
        self.device = device
        self._lazy = LazyModel(open_model)

    def warm_up(self) -> None:
        """Open the bundle; raise ``BundleError``, ``DeviceError`` or ``InputError`` if that fails."""
        self._opened()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._lazy.describe(self.model, self.device)})"

    def _opened(self) -> ModelT:
        return self._lazy.get(self.model, self.device)

    def _saved(self) -> dict[str, Any]:
        if not isinstance(self.model, str):
            raise InputError("a pipeline with an open model cannot be saved: give its components the bundle's path")
        return {"model": self.model, "device": self.device}


@component
class MonographTextEmbedder(_Opening[Embedder]):
    """Embed a query with a bundle, with the model's prompt for queries.

    The bundle is opened by ``warm_up``, which a pipeline calls, or at the first run.

    Args:
        model: A bundle's path, or an open ``Embedder``; a pipeline that is saved needs the path.
        device: Where a bundle is opened; None for the best device.
        normalize_embeddings: Normalize the vector to unit length.

    """

    def __init__(
        self, model: Embedder | BundlePath, device: str | None = None, normalize_embeddings: bool = False
    ) -> None:
        self._take(model, device, open_embedder)
        self.normalize_embeddings = normalize_embeddings

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved pipeline has of this component."""
        return default_to_dict(  # type: ignore[no-any-return]  # no types
            self, **self._saved(), normalize_embeddings=self.normalize_embeddings
        )

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return the query's vector, as ``embedding``: d float.

        Raises:
            InputError: it is no str.

        """
        vector = self._opened().encode_query(check_query(text), normalize_embeddings=self.normalize_embeddings)
        return {"embedding": vector.tolist()}


@component
class MonographDocumentEmbedder(_Opening[Embedder]):
    """Embed documents with a bundle, with the model's prompt for documents.

    Args:
        model: A bundle's path, or an open ``Embedder``; a pipeline that is saved needs the path.
        device: Where a bundle is opened; None for the best device.
        batch_size: The maximum number of texts in a batch; None for the fastest choice.
        normalize_embeddings: Normalize each vector to unit length.
        meta_fields_to_embed: Fields of a document's metadata whose values come before its text.
        embedding_separator: What stands between them.

    """

    def __init__(
        self,
        model: Embedder | BundlePath,
        device: str | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        self._take(model, device, open_embedder)
        self.batch_size = batch_size
        self.normalize_embeddings = normalize_embeddings
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved pipeline has of this component."""
        return default_to_dict(  # type: ignore[no-any-return]  # no types
            self,
            **self._saved(),
            batch_size=self.batch_size,
            normalize_embeddings=self.normalize_embeddings,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of the documents, as ``documents``, with their vectors, d float, as ``embedding``.

        Raises:
            InputError: these are not documents.

        """
        _check_documents(documents)
        vectors = (
            self._opened()
            .encode_document(
                [_text_of(document, self.meta_fields_to_embed, self.embedding_separator) for document in documents],
                batch_size=self.batch_size,
                normalize_embeddings=self.normalize_embeddings,
            )
            .tolist()
        )
        return {
            "documents": [
                dataclasses.replace(document, embedding=vector)
                for document, vector in zip(documents, vectors, strict=True)
            ]
        }


@component
class MonographRanker(_Opening[CrossEncoder]):
    """Rank documents by the scores that a reranker's bundle gives them for a query.

    Args:
        model: A bundle's path, or an open ``CrossEncoder`` with one label; a pipeline that is saved needs the path.
        device: Where a bundle is opened; None for the best device.
        top_k: The maximum number of documents to return.
        scale_score: True for scores between 0 and 1, by a sigmoid, False for logits, None for the model's own scores.
        score_threshold: The minimum score of a document to return; None for all.
        batch_size: The maximum number of pairs in a batch; None for the fastest choice.
        meta_fields_to_embed: Fields of a document's metadata whose values come before its text.
        embedding_separator: What stands between them.

    """

    def __init__(
        self,
        model: CrossEncoder | BundlePath,
        device: str | None = None,
        top_k: int = 10,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
        batch_size: int | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        self._take(model, device, open_cross_encoder)
        self.top_k = check_count(top_k, "top_k")
        self.scale_score = scale_score
        self.score_threshold = score_threshold
        self.batch_size = batch_size
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved pipeline has of this component."""
        return default_to_dict(  # type: ignore[no-any-return]  # no types
            self,
            **self._saved(),
            top_k=self.top_k,
            scale_score=self.scale_score,
            score_threshold=self.score_threshold,
            batch_size=self.batch_size,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Return copies of the documents with their scores, highest first, as ``documents``.

        Duplicates, documents of the same id as several retrievers find them, are removed.

        Raises:
            InputError: the query is no str, or these are not documents.

        """
        _check_documents(documents)
        unique = list({document.id: document for document in documents}.values())
        activation = None if self.scale_score is None else ("Sigmoid" if self.scale_score else "Identity")
        ranked = self._opened().rank(
            check_query(query),
            [_text_of(document, self.meta_fields_to_embed, self.embedding_separator) for document in unique],
            top_k=self.top_k if top_k is None else top_k,
            batch_size=self.batch_size,
            activation_fn=activation,
        )
        return {
            "documents": [
                dataclasses.replace(unique[one["corpus_id"]], score=one["score"])
                for one in ranked
                if self.score_threshold is None or one["score"] >= self.score_threshold
            ]
        }


for _component in (MonographTextEmbedder, MonographDocumentEmbedder, MonographRanker):
    # Haystack gives its components one that has neither bundle nor device.
    _component.__repr__ = _Opening.__repr__  # type: ignore[method-assign]


def _text_of(document: Any, fields: list[str], separator: str) -> str:
    values = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    return separator.join([*values, document.content or ""])


def _check_documents(documents: Any) -> None:
    for document in check_texts_of(documents):
        if not isinstance(document, Document):
            raise InputError(f"documents must be Haystack's, got {type(document).__name__}: Document(content=...)")
