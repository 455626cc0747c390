"""Ray Data: a bundle as the class of an actor for ``map_batches``. Spark, Daft and `datasets` call the same object.

Importing this module needs none of them. `monograph embed --ray` embeds whole tables on a cluster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.bulk.encoder import check_fingerprint
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.inputs import check_text
from monograph.quality import QualityLevel
from monograph.tasks.embedding import PRECISIONS

if TYPE_CHECKING:
    from monograph.bulk.cluster import SharedBundle

__all__ = ["EmbedBatch", "share_bundle"]
_NULLS = ("error", "embed", "null")


def share_bundle(path: str | os.PathLike[str]) -> SharedBundle:
    """Put a bundle into the object store of the Ray cluster that this process is connected to, for ``EmbedBatch``.

    Each node fetches it once, compares its hashes and unpacks it into monograph's cache, unless the same bundle is at
    the same path there.

    Raises:
        BundleError: the bundle is missing or damaged.
        MissingPackageError: Ray is not installed.

    """
    from monograph.bulk.cluster import share_bundle as share

    return share(path)


class EmbedBatch:
    """Adds a column of vectors to batches of rows: the class of an actor, or a function that can be pickled.

    A batch is a ``pyarrow.Table`` or ``RecordBatch``, a ``pandas.DataFrame``, or a dict from columns to arrays or
    lists. What is returned is of the same kind. The bundle is opened with the first batch, in the process that has it.

    Args:
        bundle: Its path, which each node must have, or what ``share_bundle`` returned.
        column: The column of the texts.
        vector_column: The column that is added, or replaced.
        device: Where the bundle is opened; None for the best device.
        compute_dtype: As in ``Embedder``.
        threads: As in ``Embedder``; None for the CPUs that Ray grants to the actor, outside of Ray for all that the
            process may use.
        quality: As in ``Embedder``.
        fingerprint: The ``Embedder.fingerprint`` that the model must have on every node; None for any.
        prompt_name: As in ``Embedder.encode``, as the next four.
        prompt: A prompt.
        precision: The precision of the vectors.
        ranges: The ranges of int8 and uint8 vectors.
        normalize_embeddings: Whether to normalize vectors to unit length.
        truncate_dim: The number of dimensions to keep.
        nulls: What a missing text becomes: an error, the vector of an empty text ("embed"), or null for its vector.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument or a text is not valid.
        MonographError: the model has another fingerprint.

    Examples:
        >>> embed = EmbedBatch(bundle, device="cpu")
        >>> embed({"id": [1, 2], "text": ["a boat", "a ship"]})["embedding"].shape
        (2, 24)

    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | SharedBundle,
        column: str = "text",
        vector_column: str = "embedding",
        *,
        device: str | None = None,
        compute_dtype: str = "auto",
        threads: int | None = None,
        quality: QualityLevel | None = None,
        fingerprint: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        precision: str = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        nulls: str = "error",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        if nulls not in _NULLS:
            raise InputError(f"nulls {nulls!r} is not one of {', '.join(_NULLS)}")
        self._bundle = bundle
        self._column = column
        self._vector_column = vector_column
        self._opening = {"device": device, "compute_dtype": compute_dtype, "threads": threads, "quality": quality}
        self._fingerprint = fingerprint
        self._options: dict[str, Any] = {
            "prompt_name": prompt_name,
            "prompt": prompt,
            "precision": precision,
            "ranges": ranges,
            "normalize_embeddings": normalize_embeddings,
            "truncate_dim": truncate_dim,
        }
        self._nulls = nulls
        self._model: Embedder | None = None

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the vectors of its texts, ``precision``'s type [n, d]."""
        if isinstance(batch, Mapping):
            column = self._column_of(batch, list(batch))
            if isinstance(column, str):
                # Its characters would be taken for texts.
                raise InputError(
                    f"the column {self._column!r} has one text and not those of a batch: give batches of rows, as "
                    "`datasets` does with batched=True, and Ray Data in map_batches"
                )
            vectors, present = self._encode(column)
            return {**batch, self._vector_column: vectors if present.all() else _with_none(vectors, present)}
        package = type(batch).__module__.partition(".")[0]
        if package == "pandas":
            column = self._column_of(batch, list(batch.columns))
            vectors, present = self._encode(column)
            # A list of vectors, each an array: a column of objects, as pandas has no type for them.
            return batch.assign(**{self._vector_column: _with_none(vectors, present)})
        if package == "pyarrow":
            column = self._column_of(batch, batch.schema.names)
            return self._append(batch, *self._encode(column.to_pylist()))
        kind = type(batch).__name__
        raise InputError(f"a batch must be a table of pyarrow, a DataFrame of pandas or a dict of columns, got {kind}")

    def __getstate__(self) -> dict[str, Any]:
        # Opened again where it is unpickled. And `datasets` takes the pickled object for the identity of what it does.
        return {**self.__dict__, "_model": None}

    @property
    def model(self) -> Embedder:
        """The open model."""
        if self._model is None:
            self._model = self._open()
        return self._model

    def _open(self) -> Embedder:
        bundle: Any = self._bundle
        path = bundle if isinstance(bundle, str | os.PathLike) else bundle.locate()
        opening = dict(self._opening)
        if opening["threads"] is None and "ray" in sys.modules:
            from monograph.bulk.cluster import granted_cpus

            opening["threads"] = granted_cpus()
        model = Embedder(path, **opening)  # type: ignore[arg-type]
        check_fingerprint(model.fingerprint, self._fingerprint, model)
        return model

    def _column_of(self, batch: Any, names: Sequence[str]) -> Any:
        if self._column not in names:
            raise InputError(
                f"there is no column {self._column!r}; the batch has {', '.join(map(repr, names))}: choose with column="
            )
        return batch[self._column] if not hasattr(batch, "column") else batch.column(self._column)

    def _encode(self, column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return vectors for the texts that are there, [k, d], and which these are, bool [n]."""
        texts: list[str] = []
        present = np.ones(len(column), bool)
        for position, text in enumerate(column):
            if _is_missing(text):
                if self._nulls == "error":
                    raise InputError(
                        f"row {position} of the batch has no text in the column {self._column!r}: choose what becomes "
                        "of such rows with nulls="
                    )
                if self._nulls == "null":
                    present[position] = False
                    continue
                text = ""
            texts.append(check_text(text, position))
        vectors: NDArray[Any] = self.model.encode(texts, show_progress_bar=False, **self._options)
        return vectors, present

    def _append(self, batch: Any, vectors: NDArray[Any], present: NDArray[np.bool_]) -> Any:
        from monograph.bulk.writers import vector_array

        array = vector_array(vectors, np.flatnonzero(present), len(present))
        if self._vector_column in batch.schema.names:
            return batch.set_column(batch.schema.names.index(self._vector_column), self._vector_column, array)
        return batch.append_column(self._vector_column, array)


def _with_none(vectors: NDArray[Any], present: NDArray[np.bool_]) -> list[Any]:
    rows = iter(vectors)
    return [next(rows) if there else None for there in present]


def _is_missing(text: object) -> bool:
    # pandas has NaN for a missing text, which differs from itself, or its own NA.
    return text is None or (isinstance(text, float) and text != text) or type(text).__name__ == "NAType"
