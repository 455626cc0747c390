"""LlamaIndex: a bundle as embedding model, and a reranker as postprocessor of nodes."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import asyncio
from typing import Any

from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.inputs import check_count
from monograph.integrations.frameworks import (
    BundlePath,
    ModelT,
    absolute,
    check_query,
    check_texts_of,
    describe,
    missing,
    open_cross_encoder,
    open_embedder,
)

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore
except ImportError as error:
    raise missing("llama-index-core", error) from error

# Nodes of a call: the runtime sorts them by length and makes batches of its own.
_NODES_PER_CALL = 1024


class MonographEmbedding(BaseEmbedding):
    """Embeddings of a bundle for LlamaIndex.

    Texts have the model's prompt for documents and queries that for queries, if it has them. Saved settings have the
    bundle's path and the device, of an open model as well.

    Args:
        model_name: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.
        embed_batch_size: The number of texts that LlamaIndex gives the model at a time.
        normalize: Normalize each vector to unit length.
        options: Other fields of LlamaIndex's ``BaseEmbedding``.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    device: str | None = None
    normalize: bool = True
    _embedder: Any = PrivateAttr()

    def __init__(
        self,
        model_name: Embedder | BundlePath,
        *,
        device: str | None = None,
        embed_batch_size: int = _NODES_PER_CALL,
        normalize: bool = True,
        **options: Any,
    ) -> None:
        embedder = open_embedder(model_name, device)
        name, device = _saved(model_name, device, embedder)
        super().__init__(
            model_name=name, device=device, embed_batch_size=embed_batch_size, normalize=normalize, **options
        )
        self._embedder = embedder

    def __repr__(self) -> str:
        return describe(self, self._embedder)

    # That of pydantic lists every field, LlamaIndex's callbacks among them.
    __str__ = __repr__

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class in saved settings."""
        return "MonographEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._embedder.encode_query(
            check_query(query), normalize_embeddings=self.normalize
        ).tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([check_query(text)])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.encode_document(
            check_texts_of(texts), normalize_embeddings=self.normalize
        ).tolist()
        return vectors

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class MonographRerank(BaseNodePostprocessor):
    """A reranker's bundle as postprocessor: the nodes that fit a query best, best first, with their scores.

    Args:
        model: A bundle's path, or an open ``CrossEncoder`` with one label.
        device: Where a bundle is opened; None for the best device.
        top_n: The maximum number of nodes to return.
        options: Other fields of LlamaIndex's ``BaseNodePostprocessor``.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid, or a call has no query.

    """

    model: str
    device: str | None = None
    top_n: int = 2
    _cross_encoder: Any = PrivateAttr()

    def __init__(
        self, model: CrossEncoder | BundlePath, *, device: str | None = None, top_n: int = 2, **options: Any
    ) -> None:
        cross_encoder = open_cross_encoder(model, device)
        name, device = _saved(model, device, cross_encoder)
        super().__init__(model=name, device=device, top_n=check_count(top_n, "top_n"), **options)
        self._cross_encoder = cross_encoder

    def __repr__(self) -> str:
        return describe(self, self._cross_encoder)

    __str__ = __repr__

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class in saved settings."""
        return "MonographRerank"

    def _postprocess_nodes(self, nodes: list[Any], query_bundle: Any = None) -> list[Any]:
        if query_bundle is None:
            raise InputError("reranking needs a query: give query_str= or query_bundle=")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        return [
            NodeWithScore(node=nodes[one["corpus_id"]].node, score=one["score"])
            for one in self._cross_encoder.rank(query_bundle.query_str, texts, top_k=self.top_n)
        ]


def _saved(given: ModelT | BundlePath, device: str | None, model: ModelT) -> tuple[str, str | None]:
    """Return the path and device that saved settings open a model by."""
    return (str(model.bundle.path), model.device) if given is model else (absolute(given), device)
