"""Chroma: a bundle as embedding function, which collections store by its path and open again.

Import this module before you open such a collection: that registers the function.
"""
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.integrations.frameworks import (
    BundlePath,
    absolute,
    check_texts_of,
    describe,
    identity_of,
    missing,
    open_shared,
)

try:
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise missing("chromadb", error) from error

# The similarity functions of models -> the distances of collections.
_SPACES = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}


@register_embedding_function
class MonographEmbeddingFunction(EmbeddingFunction):
    """Embeddings of a bundle for collections of Chroma.

    Documents are embedded with the model's prompt for documents and queries with that for queries, if it has them. A
    collection compares vectors by the model's similarity function unless it says otherwise.

    Args:
        path: The bundle's path.
        device: Where it is opened; None for the best device.
        normalize_embeddings: Normalize each vector to unit length.
        identity: Of the bundle that embedded what a collection holds already; Chroma gives it.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid, or another bundle is at the path of a collection's.

    """

    def __init__(
        self,
        path: BundlePath,
        device: str | None = None,
        normalize_embeddings: bool = False,
        identity: str | None = None,
    ) -> None:
        self.path = absolute(path)
        self.device = device
        self.normalize_embeddings = normalize_embeddings
        self._opened = open_shared(self.path, device, identity)
        self._identity = identity_of(self._opened)

    @property
    def model(self) -> Embedder:
        """The open model."""
        # Each time, for another owner may have closed it; the attribute is what leaves it open.
        self._opened = open_shared(self.path, self.device, self._identity)
        return self._opened

    def __repr__(self) -> str:
        return describe(self, self._opened)

    def __call__(self, input: Sequence[str]) -> list[Any]:  # noqa: A002  # Chroma's name
        """Return a vector per document, float32 [d]; raise ``InputError`` if one is not valid."""
        texts = list(check_texts_of(input))
        return list(self.model.encode_document(texts, normalize_embeddings=self.normalize_embeddings))

    def embed_query(self, input: Sequence[str]) -> list[Any]:  # noqa: A002
        """Return a vector per query, float32 [d]; raise ``InputError`` if one is not valid."""
        texts = list(check_texts_of(input))
        return list(self.model.encode_query(texts, normalize_embeddings=self.normalize_embeddings))

    @staticmethod
    def name() -> str:
        """Return the name of this function in collections."""
        return "monograph"

    def default_space(self) -> str:
        """Return the distance that is the model's similarity function."""
        function = self.model.similarity_fn_name
        if function not in _SPACES:
            raise InputError(f"Chroma has no {function} distance: choose another in the collection's configuration")
        return _SPACES[function]

    def get_config(self) -> dict[str, Any]:
        """Return what a collection stores."""
        return {
            "path": self.path,
            "device": self.device,
            "normalize_embeddings": self.normalize_embeddings,
            "identity": self._identity,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> MonographEmbeddingFunction:
        """Open the bundle of a collection."""
        return MonographEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse another bundle for a collection; the same may move to another path or device."""
        if old_config["identity"] != new_config["identity"]:
            raise InputError("another bundle has other vectors: make a new collection, and embed the texts again")
