"""MultiVectorEncoder: embed texts as a vector for each token with a bundle, and compare them by late interaction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.bundle import Check
from monograph.compat.arguments import Device, Pool, check_ignored, check_similarity
from monograph.compat.options import MultiVectorOptions, OpenOptions, TokenOptions
from monograph.compat.similarity import VectorModel
from monograph.errors import InputError
from monograph.inputs import Texts, check_count, check_flag, check_one_or_many, check_stream
from monograph.maxsim import MAXSIM_FUNCTIONS, check_matrices, maxsim, maxsim_pairwise
from monograph.quality import QualityLevel
from monograph.ranking import RankedDocument, check_query_and_documents, rank_documents
from monograph.tasks.base import PostProcess
from monograph.tasks.multi_vector import MULTI_VECTOR, MultiVectorSection, TokenPostProcess, dequantize_tokens

if TYPE_CHECKING:
    from torch import Tensor


class MultiVectorEncoder(VectorModel[MultiVectorSection]):
    """A multi-vector encoder (ColBERT) without torch: a bundle, opened on one device.

    A text has a vector for each of its tokens, and is compared by MaxSim: see ``similarity``. Queries and documents are
    tokenized differently, so use ``encode_query`` and ``encode_document``. Arguments, errors and the behavior with
    threads, pickling and forks are those of ``Embedder``, and so are the options of sentence-transformers.

    Examples:
        >>> model = MultiVectorEncoder(bundle, device="cpu")
        >>> [query] = model.encode_query(["where do boats sleep?"])
        >>> query.dtype, query.shape[1] == model.dimension
        (dtype('float32'), True)
        >>> documents = model.encode_document(["Boats lie in the harbour.", "The café opens at nine."])
        >>> model.similarity([query], documents).shape
        (1, 2)

    """

    __slots__ = ()
    _task = MULTI_VECTOR
    _similarities = MAXSIM_FUNCTIONS

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
        similarity_fn_name: str | None = None,
        **options: Unpack[OpenOptions],
    ) -> None:
        # Checked before the bundle is opened, which takes time.
        function = None if similarity_fn_name is None else check_similarity(similarity_fn_name, MAXSIM_FUNCTIONS)
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
        if function is not None:
            self.similarity_fn_name = function

    @property
    def dimension(self) -> int:
        """Columns of a token's vector."""
        return self._section.dimension

    @overload
    def encode(
        self,
        inputs: str,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode(
        self,
        inputs: list[str] | tuple[str, ...] | NDArray[Any],
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        *,
        task: str | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]]: ...
    def encode(
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        task: str | None = None,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]] | NDArray[Any]:
        """Encode one text or many.

        Args:
            inputs: A str, or a list, tuple, NumPy array or pandas column of str.
            prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of texts in a batch; batches of long texts have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            task: "query" or "document"; None is "document" for models that cut documents no shorter than they must.
            **options: ``normalize_embeddings`` brings each vector to length 1. ``precision`` is "float32", "float16",
                "int8" (127 times the vectors, which must have length 1), or "binary" and "ubinary" (a bit for each
                dimension, packed into int8 or uint8). ``pool_factor``, usually 2 to 4, divides the number of a
                document's vectors by replacing similar ones by their mean; the first ``protected_tokens``, by default
                1, stay as they are. This needs SciPy. ``device``, ``pool`` and ``chunk_size`` are accepted as
                ``Embedder.encode`` accepts them.

        Returns:
            For each text its vectors, float32 [tokens, d]; skipped tokens, often punctuation, have none. For a single
            text, just its array. Quantized vectors have the type of the precision.

        Raises:
            InputError: a text or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        Examples:
            >>> model = MultiVectorEncoder(bundle, device="cpu")
            >>> short, long = model.encode(["a", "a text of more tokens"], task="document", precision="float16")
            >>> len(short) < len(long), short.dtype
            (True, dtype('float16'))

        """
        return self._encode(inputs, prompt_name, prompt, batch_size, show_progress_bar, task, **options)

    @overload
    def encode_query(
        self,
        inputs: str,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode_query(
        self,
        inputs: list[str] | tuple[str, ...] | NDArray[Any],
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]]: ...
    def encode_query(
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]] | NDArray[Any]:
        """Encode queries: ``encode`` with the task "query", and with the model's "query" prompt if you give none.

        Short queries are filled up with mask tokens if the model was trained so, and these have vectors, too. There is
        no ``pool_factor``.
        Arguments, results (a list of float32 [tokens, d]) and errors are those of ``encode``.
        """
        name, task = self.prompt_and_task("query", prompt_name, prompt)
        return self._encode(inputs, name, prompt, batch_size, show_progress_bar, task, **options)

    @overload
    def encode_document(
        self,
        inputs: str,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> NDArray[Any]: ...
    @overload
    def encode_document(
        self,
        inputs: list[str] | tuple[str, ...] | NDArray[Any],
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]]: ...
    def encode_document(
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Unpack[MultiVectorOptions],
    ) -> list[NDArray[Any]] | NDArray[Any]:
        """Encode documents: ``encode`` with the task "document", and the "document", "passage" or "corpus" prompt.

        Arguments, results (a list of float32 [tokens, d]) and errors are those of ``encode``.
        """
        name, task = self.prompt_and_task("document", prompt_name, prompt)
        return self._encode(inputs, name, prompt, batch_size, show_progress_bar, task, **options)

    def encode_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        *,
        task: str | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        **options: Unpack[TokenOptions],
    ) -> Iterator[list[NDArray[Any]]]:
        """Encode any iterable of texts and yield blocks of the results of ``encode``, in order, in constant memory.

        The arguments are those of ``encode``; ``prompt_and_task`` returns the prompt's name and the task of documents.
        Options are checked when you call it, texts as they are read. For a progress bar, ``on_texts`` is called after
        each batch with the number of texts that it completed.

        Raises:
            InputError: a text or an option is not valid.

        """
        call = self._check_call(
            MULTI_VECTOR.post_process(self._section, **options), prompt_name, prompt, batch_size, task
        )
        return (list(matrices) for matrices in call.iterate(check_stream(texts), on_texts))

    @staticmethod
    def pad(embeddings: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the vectors of n texts as one array [n, longest, d], padded with zeros, and their numbers, int64 [n].

        Raises:
            InputError: these are no token vectors, none at all, or of different dimensions or types.

        Examples:
            >>> model = MultiVectorEncoder(bundle, device="cpu")
            >>> padded, lengths = model.pad(model.encode_document(["a", "a text of more tokens"]))
            >>> padded.shape == (2, lengths.max(), model.dimension)
            True

        """
        matrices = check_matrices(embeddings, "embeddings")
        kinds = {(matrix.shape[1], matrix.dtype) for matrix in matrices}
        if len(kinds) != 1:
            raise InputError("embeddings must be token vectors of at least one text, all of one dimension and type")
        ((width, dtype),) = kinds
        lengths = np.array([len(matrix) for matrix in matrices], dtype=np.int64)
        padded = np.zeros((len(matrices), int(lengths.max()), width), dtype=dtype)
        for row, matrix in zip(padded, matrices, strict=True):
            row[: len(matrix)] = matrix
        return padded, lengths

    @overload
    def similarity(self, embeddings1: Tensor | list[Tensor], embeddings2: Any) -> Tensor: ...
    @overload
    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]: ...
    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the MaxSim of each of n queries with each of m documents: [n, m].

        Of each vector of the query the largest product with a vector of the document is taken, and these are summed up,
        or averaged if ``similarity_fn_name`` is "meanmaxsim". It is computed in blocks: memory is bounded.

        Args:
            embeddings1: The queries: a list of arrays or torch tensors [tokens, d], one padded with zeros
                [n, tokens, d], or the vectors of a single query [tokens, d].
            embeddings2: The documents, likewise. Either may be of any precision of ``encode``; int8 vectors are divided
                by 127, and bits count as 1 and -1, at unit length.

        Returns:
            float32 [n, m], an array, or a torch tensor if the embeddings are tensors.

        Raises:
            InputError: these are no token vectors, or of different dimensions.

        """
        queries, documents = self._comparable(embeddings1, "embeddings1"), self._comparable(embeddings2, "embeddings2")
        result = maxsim(self.similarity_fn_name, queries, documents)
        return tensors.like(result, embeddings1, embeddings2)

    @overload
    def similarity_pairwise(self, embeddings1: Tensor | list[Tensor], embeddings2: Any) -> Tensor: ...
    @overload
    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]: ...
    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32] | Tensor:
        """Return the MaxSim of query i with document i, float32 [n], of the same arguments as ``similarity`` takes.

        Raises:
            InputError: these are no token vectors, of different dimensions or not as many.

        """
        queries, documents = self._comparable(embeddings1, "embeddings1"), self._comparable(embeddings2, "embeddings2")
        result = maxsim_pairwise(self.similarity_fn_name, queries, documents)
        return tensors.like(result, embeddings1, embeddings2)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> list[RankedDocument]:
        """Return documents by their MaxSim with a query, highest first; equal scores keep the documents' order.

        Args:
            query: The query.
            documents: A list, tuple, NumPy array or pandas column of str.
            top_k: The maximum number of documents to return; None for all.
            return_documents: Also return the texts, as ``text``.
            batch_size: As in ``encode``.
            show_progress_bar: As in ``encode``.

        Raises:
            InputError: the query, a document or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        Examples:
            >>> model = MultiVectorEncoder(bundle, device="cpu")
            >>> ranked = model.rank("a query", ["a document", "another", "a third"], top_k=2)
            >>> len(ranked), ranked[0]["score"] >= ranked[1]["score"]
            (2, True)

        """
        limit = None if top_k is None else check_count(top_k, "top_k")
        with_texts = check_flag(return_documents, "return_documents")
        query, texts = check_query_and_documents(query, documents)
        encoded = self.encode_document(texts, batch_size=batch_size, show_progress_bar=show_progress_bar)
        scores: list[float] = self.similarity([self.encode_query(query)], encoded)[0].tolist()
        return rank_documents(scores, texts, limit, with_texts=with_texts)

    def _encode(
        self,
        inputs: Texts,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        task: str | None,
        *,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        **options: Unpack[TokenOptions],
    ) -> list[NDArray[Any]] | NDArray[Any]:
        check_ignored(self.device, device=device, pool=pool, chunk_size=chunk_size)
        plan = MULTI_VECTOR.post_process(self._section, **options)
        call = self._check_call(plan, prompt_name, prompt, batch_size, task)
        checked = check_one_or_many(inputs)
        results = self._run(checked, call, show_progress_bar)
        matrices = list(results)
        return matrices[0] if isinstance(inputs, str) else matrices

    def _check_for_task(self, post_process: PostProcess[Any], task: str | None) -> None:
        if task == "query" and isinstance(post_process, TokenPostProcess) and post_process.pool_factor > 1:
            raise InputError("pool_factor is for documents: leave it out")

    def _comparable(self, embeddings: Any, name: str) -> list[NDArray[np.float32]]:
        """Return token vectors of any precision as matrices float32 [tokens, d]."""
        return [dequantize_tokens(matrix, self.dimension) for matrix in check_matrices(embeddings, name)]
