"""Embedder: texts to vectors with a bundle."""

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
    """Options of ``Embedder.encode`` that its other methods pass on."""

    precision: Precision
    ranges: ArrayLike | None
    normalize_embeddings: bool
    truncate_dim: int | None


class Embedder(Model[EmbeddingSection]):
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
        max_tokens_per_batch: The maximum number of tokens, padding included, in a batch of several texts, whatever
            ``batch_size`` says; it bounds the memory of batches. A longer text is a batch by itself. None for what is
            fastest.

    An embedder may be used from many threads; concurrent calls of few texts are batched, and ``batch_size=1`` opts out.
    Pickled, it opens the bundle again where it is first used. After a fork it raises, for an engine's threads are not
    in the child.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem, or of another task.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

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
        """Columns of ``encode``'s result at float32: the model's, or its default ``truncate_dim``."""
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
            prompt_name: Name of a prompt of the model, put before each text; None for the model's default.
            prompt: A prompt of your own; wins over ``prompt_name``. "" for none at all.
            batch_size: The maximum number of texts in a batch, fewer of long ones; None lets batches be as large as is
                fastest.
            show_progress_bar: True or False; None shows it where this package logs at INFO or DEBUG.
            task: What the texts are to a model with a Router, "query" or "document" for example; None for its default.
            precision: "float32", "int8" or "uint8" (with ``ranges``), "binary" or "ubinary" (one bit a dimension).
            ranges: Smallest and largest value of each dimension, float32 [2, d], for "int8" and "uint8".
            normalize_embeddings: Bring each vector to length 1.
            truncate_dim: Keep only the first dimensions, without normalizing again.

        Returns:
            For one text float32 [d], for n texts float32 [n, d], [0, d] for none. At "int8" and "binary" the type
            is int8, at "uint8" and "ubinary" uint8; a binary vector has ceil(d / 8) columns.

        Raises:
            InputError: a text or an option is not usable.
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
        """Embed queries: ``encode`` with the model's "query" prompt where it has one and none is given.

        A model with a Router takes the route of the task "query". Arguments, results (float32 [d] or [n, d]) and errors
        are those of ``encode``.

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

        A model with a Router takes the route of the task "document". Arguments, results (float32 [d] or [n, d]) and
        errors are those of ``encode``.
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

        The arguments and the types of the blocks are those of ``encode``; options are checked at the call, texts
        as they come. ``on_texts`` is called with the number of further texts that are done, batch by batch, for a
        progress bar.

        Raises:
            InputError: a text or an option is not usable.

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
        """Return the model's similarity of every vector of ``first`` [n, d] with every one of ``second`` [m, d].

        The result is float32 [n, m].

        Raises:
            InputError: the shapes do not fit.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> vectors = model.encode(["a boat", "a ship", "a slice of bread"])
            >>> model.similarity(vectors[:1], vectors).shape
            (1, 3)

        """
        return similarities.similarity(self._section.similarity, first, second)

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` and of ``second`` (both [n, d]), float32 [n].

        Raises:
            InputError: the shapes differ.

        """
        return similarities.similarity_pairwise(self._section.similarity, first, second)
