"""LanceDB: a bundle in the registry of embedding functions, as "monograph".

Import this module before you use the registry, or open a table with such a function.
"""
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

from typing import Any

from monograph.embedder import Embedder
from monograph.integrations.frameworks import absolute, check_texts_of, identity_of, missing, open_shared

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import PrivateAttr, field_validator
except ImportError as error:
    raise missing("lancedb", error) from error


@register("monograph")
class MonographEmbeddings(TextEmbeddingFunction):
    """Embeddings of a bundle for tables: ``get_registry().get("monograph").create(name="minilm")``.

    Texts of a table are embedded with the model's prompt for documents and queries with that for queries, if it has
    them. A table stores the bundle's path, and opens it again.

    Args:
        name: The bundle's path.
        device: Where it is opened; None for the best device.
        normalize: Normalize each vector to unit length.
        identity: Of the bundle that embedded what a table holds already; LanceDB gives it.
        max_retries: How often LanceDB repeats a call that failed. A bundle fails again.

    Raises:
        BundleError: the bundle is missing, damaged or of another task; this and the next when it is first used.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid, or another bundle is at the path of a table's.

    """

    name: str
    device: str | None = None
    normalize: bool = True
    identity: str | None = None
    max_retries: int = 0
    _opened: Any = PrivateAttr(default=None)

    @field_validator("name", mode="before")
    @classmethod
    def _absolute(cls, name: Any) -> Any:
        return absolute(name)

    def ndims(self) -> int:
        """Return the dimension of the vectors."""
        return self._model().dimension

    def generate_embeddings(self, texts: Any, *_args: Any, **_options: Any) -> list[list[float]]:
        """Return a vector per text of the table, lists of d float; raise ``InputError`` if a text is not valid."""
        documents = list(check_texts_of(texts))
        vectors: list[list[float]] = (
            self._model().encode_document(documents, normalize_embeddings=self.normalize).tolist()
        )
        return vectors

    def compute_query_embeddings(self, query: Any, *_args: Any, **_options: Any) -> list[list[float]]:
        """Return a vector per query, lists of d float; ``query`` is one text or several.

        Raises:
            InputError: a query is not valid.

        """
        texts = self.sanitize_input(query)
        vectors: list[list[float]] = (
            self._model().encode_query(list(texts), normalize_embeddings=self.normalize).tolist()
        )
        return vectors

    def safe_model_dump(self) -> dict[str, Any]:
        """Return what a table stores."""
        # LanceDB has the arguments as they were given.
        return {**super().safe_model_dump(), "name": self.name, "identity": identity_of(self._model())}

    def _model(self) -> Embedder:
        # Each time, for another owner may have closed it; the attribute is what leaves it open.
        model = self._opened = open_shared(self.name, self.device, self.identity)
        return model
