"""SparseEncoder: embed texts as sparse vectors with a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.bundle import Check
from monograph.compat.arguments import Device, Pool, check_ignored, check_similarity, either
from monograph.compat.options import (
    AnySparseOptions,
    OpenOptions,
    SparseArrayOptions,
    SparseOptions,
    SparseTensorOptions,
)
from monograph.compat.similarity import VectorModel
from monograph.inputs import Texts, check_count, check_one_or_many, check_stream
from monograph.quality import QualityLevel
from monograph.sparse import arrays, torch_tensors
from monograph.sparse.rows import SparseRows, SparseVector
from monograph.tasks.sparse import SPARSE, SparseSection

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from torch import Tensor


class SparseEncoder(VectorModel[SparseSection]):
    """A sparse encoder (SPLADE, or inference-free) without torch: a bundle, opened on one device.

    Arguments, errors and the behavior with threads, pickling and forks are those of ``Embedder``, and so are the
    options of sentence-transformers, with ``max_active_dims`` (see ``encode``) in place of ``truncate_dim``. All
    methods except ``encode_active`` and ``encode_active_iter`` need SciPy (the extra ``sparse``).

    Examples:
        >>> model = SparseEncoder(bundle, device="cpu")
        >>> [vector] = model.encode_active("The weather is lovely today.")
        >>> vector.indices.dtype, vector.values.dtype
        (dtype('int32'), dtype('float32'))
        >>> model.encode(["one text", "another"]).shape == (2, model.dimension)
        True

    """

    __slots__ = ()
    _task = SPARSE

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
        max_active_dims: int | None = None,
        similarity_fn_name: str | None = None,
        **options: Unpack[OpenOptions],
    ) -> None:
        # Checked before the bundle is opened, which takes time.
        limit = None if max_active_dims is None else check_count(max_active_dims, "max_active_dims")
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
        if limit is not None:
            self.max_active_dims = limit
        if function is not None:
            self.similarity_fn_name = function

    @property
    def dimension(self) -> int:
        """Columns of a vector, one for each token of the vocabulary."""
        return self._section.dimension

    @property
    def max_active_dims(self) -> int | None:
        """Number of values that calls keep of a vector if they give none, None for all. It can be set."""
        return self._section.max_active_dims

    @max_active_dims.setter
    def max_active_dims(self, value: int | None) -> None:
        limit = None if value is None else check_count(value, "max_active_dims")
        self._change_defaults(lambda defaults: defaults.with_options(max_active_dims=limit))

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
        **options: Unpack[SparseArrayOptions],
    ) -> csr_array: ...
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
        **options: Unpack[SparseTensorOptions],
    ) -> Tensor | list[Tensor]: ...
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
        **options: Unpack[AnySparseOptions],
    ) -> csr_array | Tensor | list[Tensor]: ...
    def encode(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool | None = None,
        convert_to_sparse_tensor: bool | None = None,
        save_to_cpu: bool = False,  # noqa: ARG002  # results are in the memory of the CPU
        device: Device | Sequence[Device] | None = None,
        max_active_dims: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        task: str | None = None,
        sentences: Texts | None = None,
    ) -> csr_array | Tensor | list[Tensor]:
        """Encode one text or many.

        Args:
            inputs: A str, or a list, tuple, NumPy array or pandas column of str; also by the name ``sentences``.
            prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of texts in a batch; batches of long texts have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            convert_to_tensor: True returns a torch tensor and False a list of these, one for each text. This needs
                torch, which is imported at the call. None returns a SciPy array, unless ``convert_to_sparse_tensor`` is
                given.
            convert_to_sparse_tensor: Whether tensors are sparse, in coordinate format, as for None, or dense.
            save_to_cpu: Has no effect: results are in the memory of the CPU.
            device: None, or the model's own.
            max_active_dims: Keep only this many of a vector's values, the largest; None for the model's default.
            pool: None, or what ``start_multi_process_pool`` returned. The engine uses every CPU without one.
            chunk_size: Has no effect.
            task: The task that selects the route of a model with a Router, for example "query" or "document"; None for
                its default.
            sentences: ``inputs`` by a former name in sentence-transformers.

        Returns:
            A ``scipy.sparse.csr_array`` of float32: [d] for one text, [n, d] for n texts, [0, d] for an empty list.
            Tensors have the same shapes.

        Raises:
            InputError: a text or an option is not valid.
            MonographError: the engine failed, the model was closed, or SciPy is not installed.

        Examples:
            >>> model = SparseEncoder(bundle, device="cpu")
            >>> vectors = model.encode(["one text", "another"], max_active_dims=5)
            >>> vectors.shape == (2, model.dimension), vectors.nnz <= 10
            (True, True)
            >>> model.similarity(vectors, vectors).shape
            (2, 2)

        """
        if sentences is not None:
            inputs = either(inputs=inputs, sentences=sentences)
        check_ignored(self.device, device=device, pool=pool, chunk_size=chunk_size)
        wants_tensors = convert_to_tensor is not None or convert_to_sparse_tensor is not None
        if wants_tensors:
            tensors.import_torch()
        else:
            arrays.import_scipy_sparse()
        rows = self._encode(inputs, prompt_name, prompt, batch_size, show_progress_bar, task, max_active_dims)
        single = isinstance(inputs, str)
        if wants_tensors:
            tensor = torch_tensors.to_torch(rows, self.dimension, as_sparse=convert_to_sparse_tensor is not False)
            return tensor[0] if single else tensor if convert_to_tensor is not False else list(tensor)
        array = arrays.to_csr(rows, self.dimension)
        # A row of a csr_array is a coo_array.
        return array[0].tocsr() if single else array

    @overload
    def encode_query(
        self,
        inputs: Texts = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[SparseArrayOptions],
    ) -> csr_array: ...
    @overload
    def encode_query(
        self,
        inputs: Texts | None = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[SparseTensorOptions],
    ) -> Tensor | list[Tensor]: ...
    def encode_query(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *more: Any,
        **options: Unpack[AnySparseOptions],
    ) -> csr_array | Tensor | list[Tensor]:
        """Encode queries: ``encode`` with the model's "query" prompt, if it has one and you give none.

        With a Router, the route of the task "query" is used. Arguments (``more`` are those that follow by position),
        results (csr_array float32 [d] or [n, d]) and errors are those of ``encode``.
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
        **options: Unpack[SparseArrayOptions],
    ) -> csr_array: ...
    @overload
    def encode_document(
        self,
        inputs: Texts | None = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[SparseTensorOptions],
    ) -> Tensor | list[Tensor]: ...
    def encode_document(
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *more: Any,
        **options: Unpack[AnySparseOptions],
    ) -> csr_array | Tensor | list[Tensor]:
        """Encode documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        With a Router, the route of the task "document" is used. Arguments (``more`` are those that follow by
        position), results (csr_array float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        name, task = self.prompt_and_task("document", prompt_name, prompt)
        return self.encode(inputs, name, prompt, batch_size, show_progress_bar, *more, task=task, **options)

    def encode_active(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        task: str | None = None,
        max_active_dims: int | None = None,
    ) -> list[SparseVector]:
        """Encode texts like ``encode``, and return each vector's columns and values, the input of search indexes.

        The arguments are those of ``encode``; SciPy is not needed.

        Returns:
            For each text its ``indices``, int32 [k] in ascending order, and their ``values``, float32 [k]. For a single
            text, a list with one vector.

        Raises:
            InputError: a text or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        """
        rows = self._encode(texts, prompt_name, prompt, batch_size, show_progress_bar, task, max_active_dims)
        return rows.vectors()

    def encode_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        *,
        task: str | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        **options: Unpack[SparseOptions],
    ) -> Iterator[csr_array]:
        """Encode any iterable of texts and yield blocks of vectors, csr_array [k, d], in order, in constant memory.

        The arguments are those of ``encode``. Options are checked when you call it, texts as they are read. For a
        progress bar, ``on_texts`` is called after each batch with the number of texts that it completed.

        Raises:
            InputError: a text or an option is not valid.
            MonographError: SciPy is not installed.

        """
        arrays.import_scipy_sparse()
        call = self._check_call(SPARSE.post_process(self._section, **options), prompt_name, prompt, batch_size, task)
        return (arrays.to_csr(rows, self.dimension) for rows in call.iterate(check_stream(texts), on_texts))

    def encode_active_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        *,
        task: str | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        **options: Unpack[SparseOptions],
    ) -> Iterator[list[SparseVector]]:
        """Encode any iterable of texts and yield blocks of the vectors of ``encode_active``, in constant memory.

        The arguments are those of ``encode_iter``; SciPy is not needed.

        Raises:
            InputError: a text or an option is not valid.

        """
        call = self._check_call(SPARSE.post_process(self._section, **options), prompt_name, prompt, batch_size, task)
        return (rows.vectors() for rows in call.iterate(check_stream(texts), on_texts))

    @overload
    def similarity(self, embeddings1: Tensor, embeddings2: Any) -> Tensor: ...
    @overload
    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]: ...
    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the model's similarity of each vector of ``embeddings1`` [n, d] to each of ``embeddings2`` [m, d].

        Vectors are csr_arrays, dense arrays, or torch tensors, sparse or dense. The result is dense, float32 [n, m]: an
        array, or a tensor where vectors are tensors.

        Raises:
            InputError: the shapes do not match.
            MonographError: SciPy is not installed.

        """
        result = arrays.similarity(self._section.similarity, embeddings1, embeddings2)
        return tensors.like(result, embeddings1, embeddings2)

    @overload
    def similarity_pairwise(self, embeddings1: Tensor, embeddings2: Any) -> Tensor: ...
    @overload
    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]: ...
    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the model's similarity of vector i of ``embeddings1`` to vector i of ``embeddings2``, both [n, d].

        The result is float32 [n], an array, or a torch tensor where vectors are tensors; of two vectors [d] it is one
        number, [].

        Raises:
            InputError: the shapes differ.
            MonographError: SciPy is not installed.

        """
        result = arrays.similarity_pairwise(self._section.similarity, embeddings1, embeddings2)
        return tensors.like(result, embeddings1, embeddings2)

    def decode(self, embeddings: Any, top_k: int | None = None) -> list[Any]:
        """Return each vector's tokens with their weights, the largest first; of equal weights, the lower column first.

        Args:
            embeddings: Vectors [n, d] or one vector [d]: a csr_array, a dense array, or a torch tensor.
            top_k: The maximum number of tokens per vector; None for all nonzero ones.

        Returns:
            For each vector a list of pairs of token (str) and weight (float). For one vector [d], just its list.

        Raises:
            InputError: these are not vectors of this model, or ``top_k`` is not a positive integer.
            MonographError: SciPy is not installed.

        Examples:
            >>> model = SparseEncoder(bundle, device="cpu")
            >>> [tokens] = model.decode(model.encode(["one text"]), top_k=3)
            >>> len(tokens) <= 3, all(isinstance(token, str) and weight > 0 for token, weight in tokens)
            (True, True)

        """
        limit = None if top_k is None else check_count(top_k, "top_k")
        array = arrays.check_rows(embeddings, self.dimension)
        tokenizer = self._open.routes.main.tokenizer
        decoded = []
        for start, end in zip(array.indptr[:-1], array.indptr[1:], strict=True):
            columns, values = array.indices[start:end], array.data[start:end]
            heaviest = [place for place in np.lexsort((columns, -values)) if values[place]][:limit]
            decoded.append([(tokenizer.token(int(columns[place])), float(values[place])) for place in heaviest])
        return decoded[0] if arrays.is_one_row(embeddings) else decoded

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return the mean ``active_dims`` of vectors, [n, d] or [d], and their ``sparsity_ratio``, the share of zeros.

        Raises:
            InputError: these are not vectors.
            MonographError: SciPy is not installed.

        """
        return arrays.sparsity(embeddings)

    @staticmethod
    def intersection(embeddings_1: Any, embeddings_2: Any) -> Any:
        """Return the elementwise products of one vector [d] with others, [n, d] or [d], if positive, otherwise 0.

        Returns:
            csr_array of float32 in the shape of ``embeddings_2``; a sparse tensor where vectors are tensors.

        Raises:
            InputError: ``embeddings_1`` is more than one vector, or the dimensions differ.
            MonographError: SciPy is not installed.

        """
        return torch_tensors.like(arrays.intersection(embeddings_1, embeddings_2), embeddings_1, embeddings_2)

    def _encode(
        self,
        texts: Texts | None,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        task: str | None,
        max_active_dims: int | None,
    ) -> SparseRows:
        plan = SPARSE.post_process(self._section, max_active_dims=max_active_dims)
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        checked = check_one_or_many(texts)
        return self._run(checked, call, show_progress_bar)
