"""LangChain: a bundle as ``Embeddings``, and a reranker as document compressor."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monograph.compat.arguments import either
from monograph.compat.opening import refuse_unknown
from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.inputs import check_count
from monograph.integrations.frameworks import (
    BundlePath,
    check_query,
    check_texts_of,
    describe,
    missing,
    open_cross_encoder,
    open_embedder,
)

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict
except ImportError as error:
    raise missing("langchain-core", error) from error


_ADVICE = (
    "give what encode_kwargs has by name (normalize_embeddings=, batch_size=, truncate_dim=), and device= for that of "
    "model_kwargs; for other options give an open Embedder as model"
)


class MonographEmbeddings(Embeddings):
    """Embeddings of a bundle for LangChain's vector stores and retrievers.

    Documents are embedded with the model's prompt for documents and queries with that for queries, if it has them. The
    asynchronous methods compute in LangChain's threads; concurrent queries share batches.

    Args:
        model: A bundle's path, or an open ``Embedder``; also by the name ``model_name`` of other embeddings.
        device: Where a bundle is opened; None for the best device.
        batch_size: The maximum number of texts in a batch; None for the fastest choice.
        normalize_embeddings: Normalize each vector to unit length.
        truncate_dim: Keep only the first dimensions; None for the model's default.
        unknown: Arguments of ``HuggingFaceEmbeddings`` and others, which are refused with what to give instead.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(
        self,
        model: Embedder | BundlePath | None = None,
        *,
        device: str | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        model_name: BundlePath | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, _ADVICE)
        given = either(model=model, model_name=model_name)
        if given is None:
            raise InputError(f"{type(self).__name__} needs a bundle's path, or an open Embedder")
        self.model = open_embedder(given, device)
        self.batch_size = None if batch_size is None else check_count(batch_size, "batch_size")
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = None if truncate_dim is None else check_count(truncate_dim, "truncate_dim")

    def __repr__(self) -> str:
        return describe(self, self.model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector per document, n lists of d float.

        Raises:
            InputError: a text is not valid.

        """
        vectors: list[list[float]] = self.model.encode_document(
            check_texts_of(texts),
            batch_size=self.batch_size,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        ).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query, d float.

        Raises:
            InputError: it is no str.

        """
        vector: list[float] = self.model.encode_query(
            check_query(text),
            batch_size=self.batch_size,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        ).tolist()
        return vector


class MonographReranker(BaseDocumentCompressor):
    """A reranker's bundle as document compressor: the documents that fit a query best, best first.

    Each document's score is in its metadata, as ``relevance_score``; the documents that were given stay as they are.

    Args:
        model: A bundle's path, or an open ``CrossEncoder`` with one label.
        device: Where a bundle is opened; None for the best device.
        top_n: The maximum number of documents to return; None for all.
        batch_size: The maximum number of pairs in a batch; None for the fastest choice.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    model: Any
    top_n: int | None = None
    batch_size: int | None = None

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    def __init__(
        self,
        model: CrossEncoder | BundlePath,
        *,
        device: str | None = None,
        top_n: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        limit = None if top_n is None else check_count(top_n, "top_n")
        super().__init__(model=open_cross_encoder(model, device), top_n=limit, batch_size=batch_size)

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:  # noqa: ARG002  # LangChain's signature
        """Return copies of the documents by their scores for the query, highest first, at most ``top_n``.

        Raises:
            InputError: the query or a document is not valid.

        """
        texts = [document.page_content for document in documents]
        return [
            documents[one["corpus_id"]].model_copy(
                update={"metadata": {**documents[one["corpus_id"]].metadata, "relevance_score": one["score"]}}
            )
            for one in self.model.rank(query, texts, top_k=self.top_n, batch_size=self.batch_size)
        ]
