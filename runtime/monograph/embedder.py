"""Embedder: embed texts with a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph import similarity as similarities
from monograph.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, Texts, check_stream, check_text, check_texts
from monograph.model import Model
from monograph.tasks.embedding import EMBEDDING, EmbeddingSection, Precision


class EmbedOptions(TypedDict, total=False):
    """Options that other methods of ``Embedder`` pass on to ``encode``."""

    precision: Precision
    ranges: ArrayLike | None
    normalize_embeddings: bool
    truncate_dim: int | None


class Embedder(Model[EmbeddingSection]):
    """A Sentence Transformer without torch: a bundle, opened on one device.

    Args:
        path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: "auto", "cpu" (ONNX Runtime), "openvino", "openvino:" followed by an OpenVINO device name, "cuda", or
            "cuda:1" for another GPU. "auto" tries the installed engines in the order CUDA, OpenVINO, ONNX Runtime on
            the CPU, and takes the first that reproduces the reference for three of the bundle's probes. A named device
            that cannot run the bundle is an error.
        compute_dtype: The type of matrix products: "float32", "bfloat16", "float16", or "auto" for the narrowest type
            with native hardware support.
        threads: CPU threads of the engine; None for the number of CPUs that affinity mask and cgroup quota allow.
        check: "fast" checks the hashes of the small files and the size of the weights, "full" all hashes.
        cache_dir: Folder for files that can be computed or downloaded again; None for MONOGRAPH_CACHE or the user's
            cache.
        max_tokens_per_batch: The maximum number of tokens, padding included, in a batch of several texts, whatever
            ``batch_size`` is; it limits the memory of batches. A longer text is a batch of its own. None for the
            fastest choice.
        quality: The loss that is accepted, of a bundle with several precisions: "lossless", "high" or "fast" takes the
            fastest of those that reach the level, by what the bundle states, and run on the device. None is the
            bundle's default, the first precision that it was exported with.

    An embedder is thread-safe. Concurrent calls of few texts are batched; ``batch_size=1`` opts out. A pickled embedder
    reopens the bundle on first use. In a forked process it raises an error, because the engine's threads do not exist
    there.

    Raises:
        BundleError: the bundle is missing, damaged (with every problem) or of another task.
        DeviceError: the device or type is not available here, the bundle failed verification on it, or has no graph of
            the quality for it.
        InputError: an option is not valid.

    Examples:
        >>> model = Embedder(bundle, device="cpu")
        >>> vectors = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
        >>> vectors.dtype, vectors.shape == (2, model.dimension)
        (dtype('float32'), True)
        >>> model.similarity(vectors, vectors).shape
        (2, 2)

    """

    _task = EMBEDDING

    @property
    def dimension(self) -> int:
        """Columns of ``encode``'s float32 result: the model's dimension, or its default ``truncate_dim``."""
        return EMBEDDING.post_process(self._section).dimension

    def encode(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        task: str | None = None,
        precision: Precision = "float32",
        ranges: ArrayLike | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Embed one text or many.

        Args:
            texts: A str, or a list, tuple, NumPy array or pandas column of str.
            prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of texts in a batch; batches of long texts have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            task: The task that selects the route of a model with a Router, for example "query" or "document"; None for
                its default.
            precision: "float32", "int8" or "uint8" (with ``ranges``), "binary" or "ubinary" (one bit per dimension).
            ranges: Smallest and largest value of each dimension, float32 [2, d], for "int8" and "uint8".
            normalize_embeddings: Normalize each vector to unit length.
            truncate_dim: Keep only the first dimensions, without normalizing again.

        Returns:
            float32 [d] for one text, [n, d] for n texts, [0, d] for an empty list. The type is int8 for "int8" and
            "binary", and uint8 for "uint8" and "ubinary"; binary vectors have ceil(d / 8) columns.

        Raises:
            InputError: a text or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> model.encode("one text").shape == (model.dimension,)
            True
            >>> model.encode([]).shape == (0, model.dimension)
            True
            >>> model.encode(["one text", "another"], truncate_dim=8, normalize_embeddings=True).shape
            (2, 8)
            >>> model.encode(["one text", "another"], truncate_dim=8, precision="ubinary").dtype
            dtype('uint8')

        """
        plan = EMBEDDING.post_process(
            self._section,
            precision=precision,
            ranges=ranges,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
        )
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        if isinstance(texts, str):
            return np.asarray(self._run([check_text(texts, 0)], call, show_progress_bar)[0])
        return self._run(check_texts(texts), call, show_progress_bar)

    def encode_query(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Unpack[EmbedOptions],
    ) -> NDArray[Any]:
        """Embed queries: ``encode`` with the model's "query" prompt, if it has one and you give none.

        With a Router, the route of the task "query" is used. Arguments, results (float32 [d] or [n, d]) and errors are
        those of ``encode``.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> documents = model.encode_document(["Feed the cat at six.", "The lift is out of order."])
            >>> model.similarity(model.encode_query("Why must I take the stairs?"), documents).shape
            (1, 2)

        """
        name, task = self._prompt_name(QUERY_PROMPTS, prompt_name, prompt), self._routed_task("query")
        return self.encode(texts, name, prompt, batch_size, show_progress_bar, task=task, **options)

    def encode_document(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Unpack[EmbedOptions],
    ) -> NDArray[Any]:
        """Embed documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        With a Router, the route of the task "document" is used. Arguments, results (float32 [d] or [n, d]) and errors
        are those of ``encode``.
        """
        name, task = self._prompt_name(DOCUMENT_PROMPTS, prompt_name, prompt), self._routed_task("document")
        return self.encode(texts, name, prompt, batch_size, show_progress_bar, task=task, **options)

    def encode_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        *,
        task: str | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        **options: Unpack[EmbedOptions],
    ) -> Iterator[NDArray[Any]]:
        """Embed any iterable of texts and yield blocks of vectors [k, d] in order, in constant memory.

        The arguments and the types of the blocks are those of ``encode``. Options are checked when you call it, texts
        as they are read. For a progress bar, ``on_texts`` is called after each batch with the number of texts that it
        completed.

        Raises:
            InputError: a text or an option is not valid.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> lines = (f"line {number} of a long log" for number in range(3000))
            >>> [len(block) for block in model.encode_iter(lines)]
            [2048, 952]

        """
        plan = EMBEDDING.post_process(self._section, **options)
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        return call.iterate(check_stream(texts), on_texts)

    def similarity(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of each vector of ``first`` [n, d] to each vector of ``second`` [m, d].

        The result is float32 [n, m].

        Raises:
            InputError: the shapes do not match.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> vectors = model.encode(["a boat", "a ship", "a slice of bread"])
            >>> model.similarity(vectors[:1], vectors).shape
            (1, 3)

        """
        return similarities.similarity(self._section.similarity, first, second)

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` to vector i of ``second``: [n, d] both, float32 [n].

        Raises:
            InputError: the shapes differ.

        """
        return similarities.similarity_pairwise(self._section.similarity, first, second)
