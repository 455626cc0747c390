"""Qdrant: dense, sparse and multi-vectors of bundles, and the parameters of collections that hold them."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.integrations.frameworks import (
    BundlePath,
    check_query,
    check_texts_of,
    describe,
    missing,
    open_embedder,
    open_multi_vector_encoder,
    open_sparse_encoder,
)
from monograph.multi_vector_encoder import MultiVectorEncoder
from monograph.sparse.rows import SparseVector
from monograph.sparse_encoder import SparseEncoder

try:
    from qdrant_client import models
except ImportError as error:
    raise missing("qdrant-client", error) from error

_DISTANCES = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}


class DenseVectors:
    """Vectors of a bundle for a collection's ``vectors_config``, points and queries.

    Args:
        model: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(self, model: Embedder | BundlePath, *, device: str | None = None) -> None:
        self.model = open_embedder(model, device)

    def __repr__(self) -> str:
        return describe(self, self.model)

    @property
    def params(self) -> Any:
        """Qdrant's ``VectorParams`` with the model's dimension and similarity function."""
        return models.VectorParams(size=self.model.dimension, distance=_DISTANCES[self.model.similarity_fn_name])

    def documents(self, texts: Sequence[str], *, batch_size: int | None = None) -> list[list[float]]:
        """Return a vector per document, n lists of d float, for points.

        Raises:
            InputError: a text is not valid.

        """
        vectors: list[list[float]] = self.model.encode_document(check_texts_of(texts), batch_size=batch_size).tolist()
        return vectors

    def query(self, text: str) -> list[float]:
        """Return the vector of a query, d float, for ``query_points``.

        Raises:
            InputError: it is no str.

        """
        vector: list[float] = self.model.encode_query(check_query(text)).tolist()
        return vector


class SparseVectors:
    """Sparse vectors of a bundle for a collection's ``sparse_vectors_config``, points and queries.

    Args:
        model: A bundle's path, or an open ``SparseEncoder``. Its similarity function must be "dot", Qdrant's only one
            for sparse vectors.
        device: Where a bundle is opened; None for the best device.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(self, model: SparseEncoder | BundlePath, *, device: str | None = None) -> None:
        self.model = open_sparse_encoder(model, device)
        if self.model.similarity_fn_name != "dot":
            raise InputError(
                f"Qdrant compares sparse vectors by dot product, and this model by {self.model.similarity_fn_name}: "
                "set its similarity_fn_name to 'dot' if its scores may be others"
            )

    def __repr__(self) -> str:
        return describe(self, self.model)

    @property
    def params(self) -> Any:
        """Qdrant's ``SparseVectorParams``."""
        return models.SparseVectorParams()

    def documents(self, texts: Sequence[str], *, batch_size: int | None = None) -> list[Any]:
        """Return a ``SparseVector`` of Qdrant per document, for points.

        Raises:
            InputError: a text is not valid.

        """
        return self._encode(check_texts_of(texts), "document", batch_size)

    def query(self, text: str) -> Any:
        """Return the ``SparseVector`` of a query, for ``query_points``.

        Raises:
            InputError: it is no str.

        """
        return self._encode([check_query(text)], "query", None)[0]

    def _encode(self, texts: Sequence[str], kind: Literal["query", "document"], batch_size: int | None) -> list[Any]:
        # Not encode_query and encode_document, which need SciPy.
        prompt_name, task = self.model.prompt_and_task(kind)
        vectors = self.model.encode_active(texts, prompt_name, batch_size=batch_size, task=task)
        return [_to_qdrant(vector) for vector in vectors]


class LateInteractionVectors:
    """Vectors of tokens of a bundle, compared by MaxSim, for ``vectors_config``, points and queries.

    Args:
        model: A bundle's path, or an open ``MultiVectorEncoder``. Qdrant's scores are sums over the query's vectors
            whatever the model's similarity function is; they rank alike.
        device: Where a bundle is opened; None for the best device.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(self, model: MultiVectorEncoder | BundlePath, *, device: str | None = None) -> None:
        self.model = open_multi_vector_encoder(model, device)

    def __repr__(self) -> str:
        return describe(self, self.model)

    @property
    def params(self) -> Any:
        """Qdrant's ``VectorParams`` for multi-vectors, without an index: these vectors are usually for reranking."""
        return models.VectorParams(
            size=self.model.dimension,
            distance=models.Distance.DOT,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            hnsw_config=models.HnswConfigDiff(m=0),
        )

    def documents(
        self, texts: Sequence[str], *, batch_size: int | None = None, pool_factor: float = 1
    ) -> list[list[list[float]]]:
        """Return the vectors of each document, n lists of lists of d float, for points.

        ``pool_factor`` is that of ``MultiVectorEncoder.encode_document``.

        Raises:
            InputError: a text is not valid, or has only tokens that the model skips, and so no vector.

        """
        matrices = self.model.encode_document(
            list(check_texts_of(texts)), batch_size=batch_size, pool_factor=pool_factor
        )
        for position, matrix in enumerate(matrices):
            if not len(matrix):
                raise InputError(f"document {position} has no vector, and Qdrant needs one: leave it out")
        return [matrix.tolist() for matrix in matrices]

    def query(self, text: str) -> list[list[float]]:
        """Return the vectors of a query, a list of lists of d float, for ``query_points``.

        Raises:
            InputError: it is no str.

        """
        vectors: list[list[float]] = self.model.encode_query(check_query(text)).tolist()
        return vectors


def _to_qdrant(vector: SparseVector) -> Any:
    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
