"""The model of a run and the options of its call, as a process opens them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monograph.bulk.duplicates import VectorTable
from monograph.errors import InputError, MonographError
from monograph.inference.opening import ModelSource
from monograph.model import Call, Model, open_model, prepare_call
from monograph.tasks import Task
from monograph.tasks.embedding import PRECISIONS, VectorPostProcess
from monograph.tasks.multi_vector import TokenPostProcess

FLOAT16 = "float16"
# Of the vectors in tables.
TABLE_PRECISIONS = (*PRECISIONS[:1], FLOAT16, *PRECISIONS[1:])


@dataclass(frozen=True)
class EncoderOptions:
    """What vectors depend on beside their texts; picklable.

    ``source`` is the model, ``prompt_name``, ``prompt``, ``batch_size``, ``task``, ``truncate_dim`` and ``normalize``
    are those of ``Embedder.encode``. ``precision`` is its, or "float16"; ``ranges`` (float32 [2, d]) are for int8 and
    uint8; ``pool_factor`` is that of ``MultiVectorEncoder.encode``. ``duplicates_bytes`` is the memory for vectors of
    texts that may come again, 0 for none. ``fingerprint`` is the one that the model must have, None for any.
    """

    source: ModelSource
    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    task: str | None = None
    truncate_dim: int | None = None
    normalize: bool = False
    precision: str = "float32"
    ranges: NDArray[np.float32] | None = None
    pool_factor: float = 1.0
    duplicates_bytes: int = 0
    fingerprint: str | None = None

    def check(self) -> None:
        """Raise ``InputError`` if the precision is not known."""
        if self.precision not in TABLE_PRECISIONS:
            raise InputError(f"precision {self.precision!r} is not one of {', '.join(TABLE_PRECISIONS)}")


class Encoder:
    """An open model; ``encode`` gives vectors ``dtype`` [n, ``width``], and ``settings`` are what they depend on.

    ``similarity`` names the function that compares them. Of a model that is ``per_token``, a text has a matrix: objects
    [n], each ``dtype`` [tokens, ``width``].

    Raises:
        BundleError: the bundle is missing or damaged, or another than that of ``fingerprint``.
        DeviceError: the device cannot run it.
        InputError: an option is not valid, or the bundle is none of an embedding model.

    """

    def __init__(self, options: EncoderOptions) -> None:
        options.check()
        bundle = options.source.open_bundle()
        task_options = _task_options(bundle.task, options)
        self.per_token = bundle.task.per_token
        self.model: Model[Any] = open_model(options.source, bundle)
        self._call: Call[Any] = prepare_call(
            self.model, options.prompt_name, options.prompt, options.batch_size, options.task, **task_options
        )
        plan: VectorPostProcess | TokenPostProcess = self._call.post_process  # type: ignore[assignment]  # of the task
        is_float16 = options.precision == FLOAT16
        self.dtype = np.dtype(np.float16) if is_float16 else plan.dtype
        self.width: int = plan.width
        self.similarity: str = self.model.manifest.section.similarity
        self._duplicates: VectorTable | None = None
        if options.duplicates_bytes:
            self._duplicates = VectorTable(options.duplicates_bytes, self.width, self.dtype)
        routing = self.model.manifest.routing
        self.settings: Mapping[str, str] = {
            "fingerprint": self.model.fingerprint,
            "prompt": self._call.prompt,
            "route": "none" if routing is None else str(routing.route_of(options.task)),
            **plan.settings,
            "precision": options.precision,
        }
        check_fingerprint(self.model.fingerprint, options.fingerprint, self.model)

    def encode(self, texts: list[str]) -> NDArray[Any]:
        """Return the vectors of texts, ``dtype`` [n, ``width``].

        Raises:
            InputError: a text is not usable.
            MonographError: the engine failed, or memory is not enough.

        """
        return self._encode(texts) if self._duplicates is None else self._duplicates.encode(texts, self._encode)

    def _encode(self, texts: list[str]) -> NDArray[Any]:
        if not texts:
            return np.empty(0, np.object_) if self.per_token else np.empty((0, self.width), self.dtype)
        vectors: NDArray[Any] = next(self._call.iterate(texts, lambda _: None))
        return vectors if self.per_token else vectors.astype(self.dtype, copy=False)

    def close(self) -> None:
        """Free the engine."""
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _task_options(task: Task[Any], options: EncoderOptions) -> dict[str, Any]:
    """Return the options of a call for vectors in tables, which a task's ``post_process`` checks.

    Raises:
        InputError: tables have no vectors of the task, or it does not have an option.

    """
    common = {"normalize_embeddings": options.normalize, "precision": options.precision}
    if task.per_token:
        given = {
            "--truncate-dim": options.truncate_dim is not None,
            "--ranges": options.ranges is not None,
            "--deduplicate": bool(options.duplicates_bytes),
        }
        if foreign := [name for name, is_given in given.items() if is_given]:
            raise InputError(f"the bundle is {task.title}, which has no {', '.join(foreign)}: leave them out")
        return common | {"pool_factor": options.pool_factor}
    if not task.takes_ranges:
        raise InputError(
            f"the bundle is {task.title}, and tables have dense vectors: use `{task.command}`, with lines for a sparse "
            "encoder"
        )
    if options.pool_factor != 1:
        raise InputError(f"the bundle is {task.title}, which has no --pool-factor: leave it out")
    if options.precision == FLOAT16:
        common["precision"] = "float32"
    return common | {"truncate_dim": options.truncate_dim, "ranges": options.ranges}


def check_fingerprint(actual: str, expected: str | None, model: object) -> None:
    """Raise ``MonographError`` if a model is not the one that others of the run have."""
    if expected is not None and actual != expected:
        raise MonographError(
            f"{model} has the fingerprint {actual}, and the run has {expected}: its vectors would differ. Give every "
            "process the same bundle, --device, --compute-dtype and version of the engine"
        )
