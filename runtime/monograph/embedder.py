"""Embedder: texts to vectors with a bundle."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from monograph import prompts as prompting
from monograph import similarity as similarities
from monograph.batching import distinct, windows
from monograph.bundle import Check, Manifest
from monograph.counts import checked_count
from monograph.errors import MonographError
from monograph.opening import ModelSource, OpenModel
from monograph.postprocess import Postprocess, Precision, plan_postprocess
from monograph.texts import checked_stream, checked_text, checked_texts

logger = logging.getLogger(__name__)

# More than any machine has; a larger number is a mistake, and engines fail on it in ways of their own.
MOST_THREADS = 4096
TASK = "embedding"
Texts = str | Sequence[str] | NDArray[Any]


class Embedder:
    """A Sentence Transformer without torch: one graph, one device, ``encode``.

    Args:
        path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: "auto", "cpu" (ONNX Runtime), "openvino", or "openvino:" and a name of OpenVINO's. "auto" takes the
            first engine installed, OpenVINO before ONNX Runtime, that gives the reference on three of the bundle's
            probes. A device that is named and cannot run is an error.
        compute_dtype: The type to multiply in: "float32", "bfloat16", "float16", or "auto" for the narrowest that the
            hardware multiplies in by itself.
        threads: CPU threads of the engine; None for every CPU that affinity mask and cgroup quota allow.
        check: "fast" compares the hashes of the small files and the size of the weights, "full" hashes all.
        cache_dir: Folder for what can be computed or downloaded again; None for MONOGRAPH_CACHE or the user's cache.

    An embedder may be used from many threads. Pickled, it opens the bundle again where it is first used. After
    a fork it raises, for an engine's threads are not in the child.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        compute_dtype: str = "auto",
        threads: int | None = None,
        check: Check = "fast",
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        threads = None if threads is None else checked_count(threads, "threads", MOST_THREADS)
        source = ModelSource(path, TASK, device, compute_dtype, threads, check, cache_dir)
        self._prepare(source, source.open())
        logger.info("%s runs on %s", path, self)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._open.bundle.manifest

    @property
    def dimension(self) -> int:
        """Columns of ``encode``'s result at float32: the model's, or its default ``truncate_dim``."""
        embedding = self.manifest.embedding
        return min(embedding.truncate_dim or embedding.dimension, embedding.dimension)

    @property
    def max_length(self) -> int | None:
        """Tokens that are kept of a text, special ones included, by the route that keeps most; None for all."""
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
        """16 hexadecimal digits of bundle, engine and type: hosts that share them index and query alike."""
        parts = (self._open.bundle.manifest_sha256, self.engine, self.device, self.compute_dtype)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def encode(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        task: str | None = None,
    ) -> NDArray[Any]:
        """Embed one text or many.

        Args:
            texts: A str, or a list, tuple, NumPy array or pandas column of str.
            prompt_name: Name of a prompt of the model, put before each text; None for the model's default.
            prompt: A prompt of your own; wins over ``prompt_name``. "" for none at all.
            batch_size: Texts in a batch; None lets batches be as large as their padded tokens allow.
            show_progress_bar: True or False; None shows it where this package logs at INFO or DEBUG.
            precision: "float32", "int8" or "uint8" (with ``ranges``), "binary" or "ubinary" (one bit a dimension).
            ranges: Least and greatest value of each dimension, float32 [2, d], for "int8" and "uint8".
            normalize_embeddings: Bring each vector to length 1.
            truncate_dim: Keep only the first dimensions, without normalising again.
            task: What the texts are to a model with a Router, "query" or "document" for example; None for its default.

        Returns:
            For one text float32 [d], for n texts float32 [n, d], [0, d] for none. At "int8" and "binary" the type
            is int8, at "uint8" and "ubinary" uint8; a binary vector has ceil(d / 8) columns.

        Raises:
            InputError: a text or an option is not usable.
            MonographError: the engine failed, or the model was closed.

        """
        finish = self._finish(precision, ranges, normalize_embeddings, truncate_dim)
        before = self._prompt(prompt_name, prompt)
        size = None if batch_size is None else checked_count(batch_size, "batch_size")
        self._open.routes.of_task(task)
        single = isinstance(texts, str)
        checked = [checked_text(texts, 0)] if single else checked_texts(texts)
        unique, positions = distinct(checked)
        result = np.empty((len(unique), finish.width), dtype=finish.dtype)
        done = 0
        with _progress(len(checked), show_progress_bar) as on_batch:
            for block in self._blocks(unique, before, task, size, finish, on_batch):
                result[done : done + len(block)] = block
                done += len(block)
            on_batch(len(checked) - len(unique))
        if positions is not None:
            result = result[positions]
        return np.asarray(result[0]) if single else result

    def encode_query(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Embed queries: ``encode`` with the model's "query" prompt where it has one and none is given.

        A model with a Router takes the route of the task "query".

        Arguments, results (float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        if prompt_name is None and prompt is None:
            prompt_name = prompting.first_known(self.manifest.prompts, prompting.QUERY_PROMPTS)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, precision, ranges, normalize_embeddings,
            truncate_dim, self._routed("query"),
        )  # fmt: skip

    def encode_document(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Embed documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        A model with a Router takes the route of the task "document".

        Arguments, results (float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        if prompt_name is None and prompt is None:
            prompt_name = prompting.first_known(self.manifest.prompts, prompting.DOCUMENT_PROMPTS)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, precision, ranges, normalize_embeddings,
            truncate_dim, self._routed("document"),
        )  # fmt: skip

    def encode_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        task: str | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Embed any iterable of texts and yield blocks of vectors [k, d] in order, in constant memory.

        The arguments and the types of the blocks are those of ``encode``; options are checked at the call, texts
        as they come. ``on_texts`` is told how many more texts are done, batch by batch, for a progress bar.

        Raises:
            InputError: a text or an option is not usable.

        """
        finish = self._finish(precision, ranges, normalize_embeddings, truncate_dim)
        before = self._prompt(prompt_name, prompt)
        size = None if batch_size is None else checked_count(batch_size, "batch_size")
        self._open.routes.of_task(task)
        return self._blocks(checked_stream(texts), before, task, size, finish, on_texts)

    def similarity(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of every vector of ``first`` [n, d] with every one of ``second`` [m, d].

        The result is float32 [n, m].

        Raises:
            InputError: the shapes do not fit.

        """
        return similarities.similarity(self.manifest.embedding.similarity, first, second)

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` and of ``second`` (both [n, d]), float32 [n].

        Raises:
            InputError: the shapes differ.

        """
        return similarities.similarity_pairwise(self.manifest.embedding.similarity, first, second)

    def close(self) -> None:
        """Free the engine; a second call does nothing."""
        with self._lock():
            self._closed = True
            if self._model is not None:
                self._model.routes.close()

    def __enter__(self) -> Embedder:
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

    def __repr__(self) -> str:
        if self._model is None:
            return f"Embedder({os.fspath(self._source.path)!r}, device={self._source.device!r}, not opened yet)"
        return (
            f"Embedder({str(self._open.bundle.path)!r}, device={self.device!r}, engine={self.engine!r}, "
            f"compute_dtype={self.compute_dtype!r}, threads={self.threads})"
        )

    def _finish(
        self, precision: Precision, ranges: ArrayLike | None, normalize: bool, truncate_dim: int | None
    ) -> Postprocess:
        return plan_postprocess(
            self.manifest.embedding,
            truncate_dim=truncate_dim,
            normalize=normalize,
            precision=precision,
            ranges=ranges,
        )

    def _prompt(self, prompt_name: str | None, prompt: str | None) -> str:
        return prompting.resolve_prompt(self.manifest.prompts, self.manifest.default_prompt_name, prompt_name, prompt)

    def _routed(self, task: str) -> str | None:
        return None if self.manifest.routing is None else task

    def _blocks(
        self,
        texts: Iterable[str],
        prompt: str,
        task: str | None,
        batch_size: int | None,
        finish: Postprocess,
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> Iterator[NDArray[Any]]:
        for window in windows(texts):
            yield finish(self._open.routes.of_task(task).outputs(window, batch_size, on_batch, prompt))


@contextmanager
def _progress(total: int, show: bool | None) -> Iterator[Callable[[int], object]]:
    """Show a bar if wanted, and give what tells it that texts are done."""
    # The rule of SentenceTransformer.encode: unless told, show the bar to those who asked for INFO or more.
    shown = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG) if show is None else show
    if not shown:
        # Not a disabled bar: tqdm makes a semaphore, which a worker of multiprocessing leaves behind with a warning.
        yield lambda _: None
        return
    with tqdm(total=total, desc="Texts", unit=" texts") as bar:
        yield bar.update
