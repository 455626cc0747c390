"""What the models of every task have in common: a bundle opened on a device, and inputs through it."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from monograph import prompts as prompting
from monograph.batching import deduplicate, windows
from monograph.bundle import Check, Manifest
from monograph.counts import checked_count
from monograph.errors import MonographError
from monograph.inputs import InputT
from monograph.opening import ModelSource, OpenModel
from monograph.pipeline import Pipeline
from monograph.progress import progress

logger = logging.getLogger(__name__)

# More than any machine has; a larger number is a mistake, and engines fail on it in ways of their own.
MAX_THREADS = 4096


class Finish(Protocol):
    """What is done with the graph's outputs: it makes ``dtype`` [n, ``width``] of float32 [n, d]."""

    @property
    def width(self) -> int:
        """Columns of the result."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result's values."""

    def __call__(self, outputs: NDArray[np.float32], /) -> NDArray[Any]:
        """Return the result of outputs."""


class Model:
    """A bundle of one task, opened on one device; the classes that users open add what the task computes.

    The arguments are explained where users read them, at ``Embedder``.

    Raises:
        BundleError: the bundle is missing, damaged or of another task, with every problem.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """

    _task: ClassVar[str]
    # What inputs are called in a progress bar.
    _inputs: ClassVar[str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        compute_dtype: str = "auto",
        threads: int | None = None,
        check: Check = "fast",
        cache_dir: str | os.PathLike[str] | None = None,
        max_tokens_per_batch: int | None = None,
    ) -> None:
        threads = None if threads is None else checked_count(threads, "threads", MAX_THREADS)
        most = None if max_tokens_per_batch is None else checked_count(max_tokens_per_batch, "max_tokens_per_batch")
        source = ModelSource(path, self._task, device, compute_dtype, threads, check, cache_dir, most)
        self._prepare(source, source.open())
        logger.info("%s runs on %s", path, self)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._open.bundle.manifest

    @property
    def max_length(self) -> int | None:
        """Tokens that are kept of a text or pair, special ones included, by the route that keeps most; None for all."""
        return self._open.routes.max_length

    @property
    def device(self) -> str:
        """The device that runs the graph."""
        return self._open.routes.main.engine.device

    @property
    def engine(self) -> str:
        """The engine that runs the graph, with its version."""
        return f"{self._open.routes.main.engine.name} {self._open.routes.main.engine.version}"

    @property
    def compute_dtype(self) -> str:
        """The type the engine multiplies in."""
        return self._open.routes.main.engine.compute_dtype

    @property
    def threads(self) -> int:
        """CPU threads of the engine."""
        return self._open.routes.main.engine.threads

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of bundle, engine and type: hosts that share them compute alike."""
        parts = (self._open.bundle.manifest_sha256, self.engine, self.device, self.compute_dtype)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def warmup(self) -> None:
        """Do now what the first short texts, one by one, would wait for.

        OpenVINO packs the weights, and makes kernels for single texts of up to 64 tokens; ONNX Runtime, which packs
        them as it opens the model, gains little. A service calls it before it takes requests; batch jobs need not.

        Raises:
            MonographError: the engine failed, or the model was closed.

        """
        for pipeline in self._open.routes.pipelines.values():
            pipeline.warmup()

    def close(self) -> None:
        """Free the engine; a second call does nothing."""
        with self._lock():
            self._closed = True
            if self._model is not None:
                self._model.routes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> ModelSource:
        opened = self._model
        if opened is None:
            return self._source
        return replace(self._source, path=opened.folder, manifest_sha256=opened.bundle.manifest_sha256)

    def __setstate__(self, source: ModelSource) -> None:
        # Opened when it is first used: what fails while a worker of multiprocessing unpickles its task is told to
        # nobody, and the caller waits for ever.
        self._prepare(source, None)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._model is None:
            return f"{name}({os.fspath(self._source.path)!r}, device={self._source.device!r}, not opened yet)"
        return (
            f"{name}({str(self._open.bundle.path)!r}, device={self.device!r}, engine={self.engine!r}, "
            f"compute_dtype={self.compute_dtype!r}, threads={self.threads})"
        )

    def _prepare(self, source: ModelSource, model: OpenModel | None) -> None:
        self._source = source
        self._model = model
        self._closed = False
        self._opening, self._process = threading.Lock(), os.getpid()

    def _lock(self) -> threading.Lock:
        if self._process != os.getpid():
            # It may have been held by a thread that is not in this forked process.
            self._opening, self._process = threading.Lock(), os.getpid()
        return self._opening

    @property
    def _open(self) -> OpenModel:
        if self._model is None:
            with self._lock():
                if self._closed:
                    raise MonographError("the model was closed: open it again to go on")
                if self._model is None:
                    self._model = self._source.open()
        return self._model

    def _prompt(self, prompt_name: str | None, prompt: str | None) -> str:
        return prompting.resolve_prompt(self.manifest.prompts, self.manifest.default_prompt_name, prompt_name, prompt)

    def _prompt_name(self, known: tuple[str, ...], prompt_name: str | None, prompt: str | None) -> str | None:
        """Return the first of ``known`` names that the model has a prompt of, where the caller asks for none."""
        if prompt_name is None and prompt is None:
            return prompting.first_known(self.manifest.prompts, known)
        return prompt_name

    def _routed(self, task: str) -> str | None:
        return None if self.manifest.routing is None else task

    def _results(
        self,
        inputs: Sequence[InputT],
        pipeline: Pipeline,
        finish: Finish,
        prompt: str,
        batch_size: int | None,
        show_progress_bar: bool | None,
    ) -> NDArray[Any]:
        """Return the results of inputs in their order, [n, ``finish.width``]; equal ones are computed once."""
        if len(inputs) == 1:
            with progress(1, show_progress_bar, self._inputs) as on_batch:
                return finish(pipeline.outputs(inputs, batch_size, on_batch, prompt))
        unique, positions = deduplicate(inputs)
        result = np.empty((len(unique), finish.width), dtype=finish.dtype)
        done = 0
        with progress(len(inputs), show_progress_bar, self._inputs) as on_batch:
            for block in self._blocks(unique, pipeline, finish, prompt, batch_size, on_batch):
                result[done : done + len(block)] = block
                done += len(block)
            on_batch(len(inputs) - len(unique))
        return result if positions is None else np.asarray(result[positions])

    def _blocks(
        self,
        inputs: Iterable[InputT],
        pipeline: Pipeline,
        finish: Finish,
        prompt: str,
        batch_size: int | None,
        on_batch: Callable[[int], object],
    ) -> Iterator[NDArray[Any]]:
        """Yield the results of inputs as blocks [k, ``finish.width``], in order and in constant memory."""
        for window in windows(inputs):
            yield finish(pipeline.outputs(window, batch_size, on_batch, prompt))
