"""SparseEncoder: embed texts as sparse vectors with a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, Texts, check_count, check_stream, check_text, check_texts
from monograph.model import Model
from monograph.sparse import arrays
from monograph.sparse.rows import SparseRows, SparseVector
from monograph.tasks.sparse import SPARSE, SparseSection

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class SparseOptions(TypedDict, total=False):
    """Options that other methods of ``SparseEncoder`` pass on to ``encode``."""

    max_active_dims: int | None


class SparseEncoder(Model[SparseSection]):
    """A sparse encoder (SPLADE, or inference-free) without torch: a bundle, opened on one device.

    Arguments, errors and the behavior with threads, pickling and forks are those of ``Embedder``. All methods except
    ``encode_active`` and ``encode_active_iter`` need SciPy (the extra ``sparse``).

    Examples:
        >>> model = SparseEncoder(bundle, device="cpu")
        >>> [vector] = model.encode_active("The weather is lovely today.")
        >>> vector.indices.dtype, vector.values.dtype
        (dtype('int32'), dtype('float32'))
        >>> model.encode(["one text", "another"]).shape == (2, model.dimension)
        True

    """

    _task = SPARSE

    @property
    def dimension(self) -> int:
        """Columns of a vector, one for each token of the vocabulary."""
        return self._section.dimension

    def encode(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        task: str | None = None,
        max_active_dims: int | None = None,
    ) -> csr_array:
        """Encode one text or many.

        Args:
            texts: A str, or a list, tuple, NumPy array or pandas column of str.
            prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of texts in a batch; batches of long texts have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            task: The task that selects the route of a model with a Router, for example "query" or "document"; None for
                its default.
            max_active_dims: Keep only this many of a vector's values, the largest; None for the model's default.

        Returns:
            A ``scipy.sparse.csr_array`` of float32: [d] for one text, [n, d] for n texts, [0, d] for an empty list.

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
        arrays.import_scipy_sparse()
        rows = self._encode(texts, prompt_name, prompt, batch_size, show_progress_bar, task, max_active_dims)
        array = arrays.to_csr(rows, self.dimension)
        # A row of a csr_array is a coo_array.
        return array[0].tocsr() if isinstance(texts, str) else array

    def encode_query(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Unpack[SparseOptions],
    ) -> csr_array:
        """Encode queries: ``encode`` with the model's "query" prompt, if it has one and you give none.

        With a Router, the route of the task "query" is used. Arguments, results (csr_array float32 [d] or [n, d]) and
        errors are those of ``encode``.
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
        **options: Unpack[SparseOptions],
    ) -> csr_array:
        """Encode documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        With a Router, the route of the task "document" is used. Arguments, results (csr_array float32 [d] or [n, d])
        and errors are those of ``encode``.
        """
        name, task = self._prompt_name(DOCUMENT_PROMPTS, prompt_name, prompt), self._routed_task("document")
        return self.encode(texts, name, prompt, batch_size, show_progress_bar, task=task, **options)

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

    def similarity(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Return the model's similarity of each vector of ``first`` [n, d] to each vector of ``second`` [m, d].

        Vectors are csr_arrays or dense arrays; the result is dense, float32 [n, m].

        Raises:
            InputError: the shapes do not match.
            MonographError: SciPy is not installed.

        """
        return arrays.similarity(self._section.similarity, first, second)

    def similarity_pairwise(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` to vector i of ``second``: [n, d] both, float32 [n].

        Raises:
            InputError: the shapes differ.
            MonographError: SciPy is not installed.

        """
        return arrays.similarity_pairwise(self._section.similarity, first, second)

    def decode(self, embeddings: Any, top_k: int | None = None) -> list[Any]:
        """Return each vector's tokens with their weights, the largest first; of equal weights, the lower column first.

        Args:
            embeddings: Vectors [n, d] or one vector [d], csr_array or dense.
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
        return decoded if np.ndim(embeddings) == 2 else decoded[0]

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return the mean ``active_dims`` of vectors, [n, d] or [d], and their ``sparsity_ratio``, the share of zeros.

        Raises:
            InputError: these are not vectors.
            MonographError: SciPy is not installed.

        """
        return arrays.sparsity(embeddings)

    @staticmethod
    def intersection(first: Any, second: Any) -> csr_array:
        """Return the elementwise products of one vector [d] with others, [n, d] or [d], if positive, otherwise 0.

        Returns:
            csr_array of float32 in the shape of ``second``.

        Raises:
            InputError: ``first`` is more than one vector, or the dimensions differ.
            MonographError: SciPy is not installed.

        """
        return arrays.intersection(first, second)

    def _encode(
        self,
        texts: Texts,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        task: str | None,
        max_active_dims: int | None,
    ) -> SparseRows:
        plan = SPARSE.post_process(self._section, max_active_dims=max_active_dims)
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        checked = [check_text(texts, 0)] if isinstance(texts, str) else check_texts(texts)
        return self._run(checked, call, show_progress_bar)
