"""Embedder: texts to vectors with a bundle."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from monograph import prompts as prompting
from monograph import similarity as similarities
from monograph.batching import windows
from monograph.bundle import Check, Manifest, open_bundle
from monograph.counts import checked_count
from monograph.errors import BundleError
from monograph.pipeline import open_pipeline
from monograph.postprocess import Postprocess, Precision, plan_postprocess
from monograph.texts import checked_stream, checked_text, checked_texts

logger = logging.getLogger(__name__)

# More than any machine has; a larger number is a mistake, and engines fail on it in ways of their own.
MOST_THREADS = 4096
Texts = str | Sequence[str] | NDArray[Any]


class Embedder:
    """A Sentence Transformer without torch: one graph, one device, ``encode``.

    Args:
        path: The bundle's folder.
        device: "auto", or "cpu" for ONNX Runtime. A device that is named and cannot run is an error.
        compute_dtype: "auto", or the type to multiply in; "float32" on "cpu".
        threads: CPU threads of the engine; None for every CPU that affinity mask and cgroup quota allow.
        check: "fast" compares the hashes of the small files and the size of the weights, "full" hashes all.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem.
        DeviceError: the device or type cannot be had here.
        InputError: an option is not usable.

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        compute_dtype: str = "auto",
        threads: int | None = None,
        check: Check = "fast",
    ) -> None:
        threads = None if threads is None else checked_count(threads, "threads", MOST_THREADS)
        self._bundle = open_bundle(path, check)
        if self._bundle.manifest.task != "embedding":
            raise BundleError(path, [f"its task is {self._bundle.manifest.task!r}, and Embedder runs 'embedding'"])
        self._pipeline = open_pipeline(self._bundle, device=device, compute_dtype=compute_dtype, threads=threads)
        logger.info("%s runs on %s", path, self)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._bundle.manifest

    @property
    def dimension(self) -> int:
        """Columns of ``encode``'s result at float32: the model's, or its default ``truncate_dim``."""
        embedding = self.manifest.embedding
        return min(embedding.truncate_dim or embedding.dimension, embedding.dimension)

    @property
    def max_length(self) -> int | None:
        """Tokens that are kept of a text, special ones included."""
        return self._pipeline.tokenizer.max_length

    @property
    def device(self) -> str:
        """The device that runs the graph."""
        return self._pipeline.engine.device

    @property
    def engine(self) -> str:
        """The engine that runs the graph, with its version."""
        return f"{self._pipeline.engine.name} {self._pipeline.engine.version}"

    @property
    def compute_dtype(self) -> str:
        """The type the engine multiplies in."""
        return self._pipeline.engine.compute_dtype

    @property
    def threads(self) -> int:
        """CPU threads of the engine."""
        return self._pipeline.engine.threads

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of bundle, engine and type: hosts that share them index and query alike."""
        parts = (self._bundle.manifest_sha256, self.engine, self.device, self.compute_dtype)
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
        single = isinstance(texts, str)
        checked = [checked_text(texts, 0)] if single else checked_texts(texts)
        result = np.empty((len(checked), finish.width), dtype=finish.dtype)
        done = 0
        with _progress(len(checked), show_progress_bar) as bar:
            for block in self._blocks(checked, before, size, finish, bar):
                result[done : done + len(block)] = block
                done += len(block)
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

        Arguments, results (float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        if prompt_name is None and prompt is None:
            prompt_name = prompting.first_known(self.manifest.prompts, prompting.QUERY_PROMPTS)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, precision, ranges, normalize_embeddings,
            truncate_dim,
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

        Arguments, results (float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        if prompt_name is None and prompt is None:
            prompt_name = prompting.first_known(self.manifest.prompts, prompting.DOCUMENT_PROMPTS)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, precision, ranges, normalize_embeddings,
            truncate_dim,
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
    ) -> Iterator[NDArray[Any]]:
        """Embed any iterable of texts and yield blocks of vectors [k, d] in order, in constant memory.

        The arguments and the types of the blocks are those of ``encode``; options are checked at the call, texts
        as they come.

        Raises:
            InputError: a text or an option is not usable.

        """
        finish = self._finish(precision, ranges, normalize_embeddings, truncate_dim)
        before = self._prompt(prompt_name, prompt)
        size = None if batch_size is None else checked_count(batch_size, "batch_size")
        return self._blocks(checked_stream(texts), before, size, finish)

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
        self._pipeline.engine.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Embedder({str(self._bundle.path)!r}, device={self.device!r}, engine={self.engine!r}, "
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

    def _blocks(
        self,
        texts: Iterable[str],
        prompt: str,
        batch_size: int | None,
        finish: Postprocess,
        bar: tqdm[Any] | None = None,
    ) -> Iterator[NDArray[Any]]:
        prompted = (prompt + text for text in texts) if prompt else texts
        on_batch = (lambda _: None) if bar is None else bar.update
        for window in windows(prompted):
            yield finish(self._pipeline.outputs(window, batch_size, on_batch))


def _progress(total: int, show: bool | None) -> tqdm[Any]:
    # The rule of SentenceTransformer.encode: unless told, show the bar to those who asked for INFO or more.
    shown = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG) if show is None else show
    return tqdm(total=total, desc="Texts", unit=" texts", disable=not shown)
