"""Embedder: embed texts with a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph import similarity as similarities
from monograph import tensors
from monograph.bundle import Check
from monograph.compat.arguments import Device, Pool, check_ignored, check_similarity, either
from monograph.compat.options import (
    AnyOptions,
    ArrayOptions,
    EmbedOptions,
    OpenOptions,
    TensorOptions,
    TokenEmbeddingOptions,
)
from monograph.errors import InputError
from monograph.hybrid_model import HybridCalls
from monograph.inputs import Texts, check_count, check_named, check_one_or_many, check_stream
from monograph.late_chunking import Chunker, Span, pool_spans
from monograph.quality import QualityLevel
from monograph.tasks.embedding import EMBEDDING, TOKEN_EMBEDDINGS, Precision

if TYPE_CHECKING:
    from torch import Tensor


class Embedder(HybridCalls):
    """A Sentence Transformer without torch: a bundle, opened on one device.

    Args:
        model_name_or_path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: None or "auto", "cpu" (ONNX Runtime), "openvino", "openvino:" followed by an OpenVINO device name,
            "cuda", or "cuda:1" for another GPU. "auto" tries the installed engines in the order CUDA, OpenVINO, ONNX
            Runtime on the CPU, and takes the first that reproduces the reference for three of the bundle's probes. A
            named device that cannot run the bundle is an error.
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
        truncate_dim: Keep only the first dimensions of vectors; None for the model's default. As the following, which
            are those of sentence-transformers, it goes by name only.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan" in place of the model's similarity function.
        options: ``prompts``, which are added to the model's, and ``default_prompt_name``, the prompt of calls that give
            none; ``revision``, ``token``, ``cache_folder`` (another name of ``cache_dir``) and ``local_files_only`` for
            a bundle on the Hub; ``backend``, "onnx" or "openvino", for a device by its engine. Those of torch models,
            such as ``model_kwargs``, are accepted if they say nothing.

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

    __slots__ = ()
    _task = EMBEDDING

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        device: Device | None = None,
        compute_dtype: str = "auto",
        threads: int | None = None,
        check: Check = "fast",
        cache_dir: str | os.PathLike[str] | None = None,
        max_tokens_per_batch: int | None = None,
        quality: QualityLevel | None = None,
        *,
        truncate_dim: int | None = None,
        similarity_fn_name: str | None = None,
        **options: Unpack[OpenOptions],
    ) -> None:
        # Checked before the bundle is opened, which takes time.
        dimension = None if truncate_dim is None else check_count(truncate_dim, "truncate_dim")
        function = None if similarity_fn_name is None else check_similarity(similarity_fn_name)
        super().__init__(
            model_name_or_path,
            device,
            compute_dtype,
            threads,
            check,
            cache_dir,
            max_tokens_per_batch,
            quality,
            **options,
        )
        if dimension is not None:
            self.truncate_dim = dimension
        if function is not None:
            self.similarity_fn_name = function

    @property
    def dimension(self) -> int:
        """Columns of ``encode``'s float32 result: the model's dimension, or its default ``truncate_dim``."""
        return EMBEDDING.post_process(self._section).dimension

    @property
    def truncate_dim(self) -> int | None:
        """Number of dimensions of calls that give none; None for all. It can be set."""
        return self._section.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        dimension = None if value is None else check_count(value, "truncate_dim")
        self._change_defaults(lambda defaults: defaults.with_options(truncate_dim=dimension))

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Set ``truncate_dim`` for the calls within a ``with`` block, in all threads."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    @contextmanager
    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """``truncate_embeddings`` by its former name."""
        with self.truncate_embeddings(truncate_dim):
            yield

    @overload
    def encode(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[ArrayOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[TensorOptions],
    ) -> Tensor: ...
    @overload
    def encode(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[TokenEmbeddingOptions],
    ) -> list[NDArray[np.float32]] | NDArray[np.float32]: ...
    @overload
    def encode(
        self,
        inputs: Texts | None = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[AnyOptions],
    ) -> NDArray[Any] | Tensor | list[Tensor]: ...
    def encode(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: Precision | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | Sequence[Device] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        task: str | None = None,
        ranges: ArrayLike | None = None,
        sentences: Texts | None = None,
    ) -> NDArray[Any] | Tensor | list[Tensor] | list[NDArray[np.float32]]:
        """Embed one text or many.

        Args:
            inputs: A str, or a list, tuple, NumPy array or pandas column of str; also by the name ``sentences``.
            prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of texts in a batch; batches of long texts have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            output_value: "sentence_embedding", or "token_embeddings" for the vectors of tokens, if the bundle was
                exported with ``--outputs sentence_embedding,token_embeddings``.
            precision: "float32", "int8" or "uint8" (with ``ranges``), "binary" or "ubinary" (one bit per dimension);
                None for "float32".
            convert_to_numpy: False, with ``convert_to_tensor`` False, returns a list of torch tensors, and for one text
                a tensor.
            convert_to_tensor: Return a torch tensor. This needs torch, which is imported at the call.
            device: None, or the model's own.
            normalize_embeddings: Normalize each vector to unit length.
            truncate_dim: Keep only the first dimensions, without normalizing again.
            pool: None, or what ``start_multi_process_pool`` returned. The engine uses every CPU without one.
            chunk_size: Has no effect.
            task: The task that selects the route of a model with a Router, for example "query" or "document"; None for
                its default.
            ranges: Smallest and largest value of each dimension, float32 [2, d], for "int8" and "uint8".
            sentences: ``inputs`` by a former name in sentence-transformers.

        Returns:
            float32 [d] for one text, [n, d] for n texts, [0, d] for an empty list. The type is int8 for "int8" and
            "binary", and uint8 for "uint8" and "ubinary"; binary vectors have ceil(d / 8) columns. Token embeddings are
            a list of float32 [tokens, width], of one text just its array, special tokens included.

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
        if sentences is not None:
            inputs = either(inputs=inputs, sentences=sentences)
        if output_value != "sentence_embedding" or device is not None or pool is not None or chunk_size is not None:
            check_ignored(self.device, output_value=output_value, device=device, pool=pool, chunk_size=chunk_size)
        if convert_to_tensor or not convert_to_numpy:
            tensors.import_torch()
        if output_value == TOKEN_EMBEDDINGS:
            if precision not in (None, "float32") or normalize_embeddings or truncate_dim is not None:
                raise InputError(
                    "token embeddings are returned as they are: leave out precision, normalize_embeddings and "
                    "truncate_dim"
                )
            matrices = self._encode_tokens(inputs, prompt_name, prompt, batch_size, show_progress_bar, task)
            return matrices[0] if isinstance(inputs, str) else matrices
        plan = EMBEDDING.post_process(
            self._section,
            precision=precision,
            ranges=ranges,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
        )
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        single = isinstance(inputs, str)
        checked = check_one_or_many(inputs)
        vectors = self._run(checked, call, show_progress_bar)
        if single:
            vectors = np.asarray(vectors[0])
        if convert_to_tensor or not convert_to_numpy:
            return tensors.to_torch(vectors, as_list=not (convert_to_tensor or single))
        return vectors

    @overload
    def encode_query(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[ArrayOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode_query(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[TensorOptions],
    ) -> Tensor: ...
    @overload
    def encode_query(
        self,
        inputs: Texts | None = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[AnyOptions],
    ) -> NDArray[Any] | Tensor | list[Tensor]: ...
    def encode_query(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *more: Any,
        **options: Unpack[AnyOptions],
    ) -> NDArray[Any] | Tensor | list[Tensor]:
        """Embed queries: ``encode`` with the model's "query" prompt, if it has one and you give none.

        With a Router, the route of the task "query" is used. Arguments (``more`` are those that follow by position),
        results (float32 [d] or [n, d]) and errors are those of ``encode``.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> documents = model.encode_document(["Feed the cat at six.", "The lift is out of order."])
            >>> model.similarity(model.encode_query("Why must I take the stairs?"), documents).shape
            (1, 2)

        """
        name, task = self.prompt_and_task("query", prompt_name, prompt)
        return self.encode(inputs, name, prompt, batch_size, show_progress_bar, *more, task=task, **options)

    @overload
    def encode_document(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[ArrayOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode_document(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[TensorOptions],
    ) -> Tensor: ...
    @overload
    def encode_document(
        self,
        inputs: Texts | None = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[AnyOptions],
    ) -> NDArray[Any] | Tensor | list[Tensor]: ...
    def encode_document(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *more: Any,
        **options: Unpack[AnyOptions],
    ) -> NDArray[Any] | Tensor | list[Tensor]:
        """Embed documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        With a Router, the route of the task "document" is used. Arguments (``more`` are those that follow by
        position), results (float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        name, task = self.prompt_and_task("document", prompt_name, prompt)
        return self.encode(inputs, name, prompt, batch_size, show_progress_bar, *more, task=task, **options)

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

    def encode_chunks(
        self,
        text: str,
        chunks: Sequence[Span] | Chunker,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *,
        task: str | None = None,
        overlap: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed the parts of a long text, each in the context of the whole (late chunking).

        The text is computed once, and a part's vector is the mean of those of its tokens. A token belongs to a part by
        its last character. A text of more tokens than the model takes is computed in windows that overlap; a token's
        vector is from the window in which it is farther from the ends.

        Args:
            text: The whole text.
            chunks: The parts, as pairs of the first character and the one after the last; they may overlap. Or a
                function of the text that returns them.
            prompt_name: As in ``encode``.
            prompt: As in ``encode``; it is in front of the whole text.
            task: As in ``encode``.
            overlap: Tokens that two windows have in common; None for a quarter of a window.

        Returns:
            float32 [k, d] for k parts, normalized if the model's vectors are.

        Raises:
            InputError: the bundle has no token embeddings, or its vectors are not means of them; or a part is not a
                pair of characters of the text, or has no token.
            MonographError: the engine failed, or the model was closed.

        """
        if self._section.token_pooling is None:
            raise InputError(
                "encode_chunks needs a bundle of a model with mean pooling, and nothing but Normalize behind it, that "
                f"was exported with --outputs {EMBEDDING.output},{TOKEN_EMBEDDINGS}"
            )
        call = self._check_token_call(prompt_name, prompt, None, task)
        vectors = pool_spans(call.pipeline, check_named(text, "text"), chunks, call.prompt, overlap)
        return similarities.normalize(vectors) if self._section.normalized else vectors

    def _encode_tokens(
        self,
        inputs: Texts | None,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        task: str | None,
    ) -> list[NDArray[np.float32]]:
        call = self._check_token_call(prompt_name, prompt, batch_size, task)
        checked = check_one_or_many(inputs)
        return list(self._run(checked, call, show_progress_bar))

    @overload
    def similarity(self, embeddings1: Tensor, embeddings2: Any) -> Tensor: ...
    @overload
    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> NDArray[np.float32]: ...
    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the model's similarity of each vector of ``embeddings1`` [n, d] to each of ``embeddings2`` [m, d].

        The result is float32 [n, m]: an array, or a torch tensor where vectors are tensors.

        Raises:
            InputError: the shapes do not match.

        Examples:
            >>> model = Embedder(bundle, device="cpu")
            >>> vectors = model.encode(["a boat", "a ship", "a slice of bread"])
            >>> model.similarity(vectors[:1], vectors).shape
            (1, 3)

        """
        result = similarities.similarity(self._section.similarity, embeddings1, embeddings2)
        return tensors.like(result, embeddings1, embeddings2)

    @overload
    def similarity_pairwise(self, embeddings1: Tensor, embeddings2: Any) -> Tensor: ...
    @overload
    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> NDArray[np.float32]: ...
    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the model's similarity of vector i of ``embeddings1`` to vector i of ``embeddings2``, both [n, d].

        The result is float32 [n], an array, or a torch tensor where vectors are tensors. One vector, [d] or [1, d], is
        compared with each of the others; of two vectors [d] the result is one number, [].

        Raises:
            InputError: the shapes differ.

        """
        result = similarities.similarity_pairwise(self._section.similarity, embeddings1, embeddings2)
        return tensors.like(result, embeddings1, embeddings2)
