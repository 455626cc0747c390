"""Embedder: texts to vectors with a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph import prompts as prompting
from monograph import similarity as similarities
from monograph.counts import checked_count
from monograph.model import Model
from monograph.postprocess import Postprocess, Precision, plan_postprocess
from monograph.texts import Texts, checked_stream, checked_text, checked_texts


class Embedder(Model):
    """A Sentence Transformer without torch: one graph, one device, ``encode``.

    Args:
        path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: "auto", "cpu" (ONNX Runtime), "openvino", "openvino:" and a name of OpenVINO's, "cuda", or "cuda:1" for
            another GPU. "auto" takes the first engine installed, CUDA before OpenVINO before the CPU's ONNX Runtime,
            that gives the reference on three of the bundle's probes. A device that is named and cannot run is an error.
        compute_dtype: The type to multiply in: "float32", "bfloat16", "float16", or "auto" for the narrowest that the
            hardware multiplies in by itself.
        threads: CPU threads of the engine; None for every CPU that affinity mask and cgroup quota allow.
        check: "fast" compares the hashes of the small files and the size of the weights, "full" hashes all.
        cache_dir: Folder for what can be computed or downloaded again; None for MONOGRAPH_CACHE or the user's cache.
        max_tokens_per_batch: The most tokens, padding included, in a batch of several texts, whatever ``batch_size``
            says; it bounds the memory of batches. A longer text is a batch by itself. None for what is fastest.

    An embedder may be used from many threads. Pickled, it opens the bundle again where it is first used. After
    a fork it raises, for an engine's threads are not in the child.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """

    _task = "embedding"
    _inputs = "texts"

    @property
    def dimension(self) -> int:
        """Columns of ``encode``'s result at float32: the model's, or its default ``truncate_dim``."""
        embedding = self.manifest.need_embedding()
        return min(embedding.truncate_dim or embedding.dimension, embedding.dimension)

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
            batch_size: The most texts in a batch, fewer of long ones; None lets batches be as large as is fastest.
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
        pipeline = self._open.routes.of_task(task)
        single = isinstance(texts, str)
        checked = [checked_text(texts, 0)] if single else checked_texts(texts)
        result = self._results(checked, pipeline, finish, before, size, show_progress_bar)
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
        prompt_name = self._prompt_name(prompting.QUERY_PROMPTS, prompt_name, prompt)
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
        prompt_name = self._prompt_name(prompting.DOCUMENT_PROMPTS, prompt_name, prompt)
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
        pipeline = self._open.routes.of_task(task)
        return self._blocks(checked_stream(texts), pipeline, finish, before, size, on_texts)

    def similarity(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of every vector of ``first`` [n, d] with every one of ``second`` [m, d].

        The result is float32 [n, m].

        Raises:
            InputError: the shapes do not fit.

        """
        return similarities.similarity(self.manifest.need_embedding().similarity, first, second)

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` and of ``second`` (both [n, d]), float32 [n].

        Raises:
            InputError: the shapes differ.

        """
        return similarities.similarity_pairwise(self.manifest.need_embedding().similarity, first, second)

    def _finish(
        self, precision: Precision, ranges: ArrayLike | None, normalize: bool, truncate_dim: int | None
    ) -> Postprocess:
        return plan_postprocess(
            self.manifest.need_embedding(),
            truncate_dim=truncate_dim,
            normalize=normalize,
            precision=precision,
            ranges=ranges,
        )
