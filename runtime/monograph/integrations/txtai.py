"""txtai: a bundle as vectors, by ``method="monograph.integrations.txtai.MonographVectors"``."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from monograph.embedder import Embedder
from monograph.integrations.frameworks import absolute, check_texts_of, describe, missing, open_embedder

try:
    from txtai.vectors import Vectors
except ImportError as error:
    raise missing("txtai", error) from error

# What txtai's configuration names this class by.
METHOD = f"{__name__}.MonographVectors"


class MonographVectors(Vectors):
    """Vectors of a bundle for ``txtai.Embeddings``.

    Configure them with ``method`` as above and ``path``, the bundle's path; ``vectors={"device": "cpu"}`` chooses a
    device. Texts of an index are embedded with the model's prompt for documents and queries with that for queries, if
    it has them. A saved index names the method and the path, and opens the bundle again.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: a text is not valid.

    """

    def __repr__(self) -> str:
        return describe(self, self.model)

    def loadmodel(self, path: Any) -> Embedder:
        """Open the bundle; txtai calls this."""
        # What a saved index names.
        self.config["path"] = absolute(path)
        return open_embedder(self.config["path"], self.config.get("vectors", {}).get("device"))

    def encode(self, data: Any, category: str | None = None) -> NDArray[Any]:
        """Return the vectors of texts, float32 [n, d]; ``category`` is "query", "data" or None."""
        encode = {"query": self.model.encode_query, "data": self.model.encode_document}.get(
            category or "", self.model.encode
        )
        vectors: NDArray[Any] = encode(list(check_texts_of(data)), **self.config.get("encodeargs", {}))
        return vectors
