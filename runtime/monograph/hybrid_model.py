"""Embedding models that also weight tokens and have a vector for each (bge-m3): three kinds of vectors of one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from monograph.compat.similarity import VectorModel
from monograph.errors import InputError
from monograph.hybrid import (
    DEFAULT_WEIGHTS,
    HybridEmbeddings,
    HybridPostProcess,
    HybridScores,
    TextVectors,
    hybrid_embeddings,
    hybrid_scores,
    hybrid_scores_pairwise,
)
from monograph.inputs import Texts, check_one_or_many, check_stream
from monograph.model import Call
from monograph.tasks.embedding import EMBEDDING, HYBRID_EMBEDDINGS, EmbeddingSection


class HybridCalls(VectorModel[EmbeddingSection]):
    """The calls of ``Embedder`` for bundles with all three kinds of vectors."""

    __slots__ = ()
    _task = EMBEDDING

    def encode_all(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        task: str | None = None,
    ) -> HybridEmbeddings:
        """Embed texts as dense, sparse and multi-vector embeddings, all of one pass (bge-m3).

        The arguments are those of ``encode``; the dense vectors are those that it returns. A text's sparse vector has
        the largest weight of each of its token ids, and special tokens have none. Vectors of tokens leave out the first
        token.

        Returns:
            The vectors of n texts, of one text given as a str those of n = 1: ``dense`` float32 [n, d], ``sparse`` a
            list of ``SparseVector`` and ``multi_vector`` a list of float32 [tokens, c].

        Raises:
            InputError: a text or an option is not valid, or the bundle has dense vectors only.
            MonographError: the engine failed, or the model was closed.

        """
        call = self._check_hybrid_call(prompt_name, prompt, batch_size, task)
        checked = check_one_or_many(texts)
        results = self._run(checked, call, show_progress_bar)
        return self._hybrid_embeddings(call, list(results), checked)

    def encode_all_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        *,
        task: str | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
    ) -> Iterator[HybridEmbeddings]:
        """Embed any iterable of texts and yield blocks of the results of ``encode_all``, in order, in constant memory.

        The arguments are those of ``encode_all``. Options are checked when you call it, texts as they are read.
        For a progress bar, ``on_texts`` is called after each batch with the number of texts that it completed.

        Raises:
            InputError: a text or an option is not valid, or the bundle has dense vectors only.

        """
        call = self._check_hybrid_call(prompt_name, prompt, batch_size, task)
        return self._hybrid_blocks(call, check_stream(texts), on_texts)

    @staticmethod
    def hybrid_similarity(
        queries: HybridEmbeddings, documents: HybridEmbeddings, weights: Sequence[float] = DEFAULT_WEIGHTS
    ) -> HybridScores:
        """Return the scores of each of n queries with each of m documents, by each kind of vector and combined.

        ``weights`` are those of dense, sparse and multi-vector scores in the weighted means. Each score is float32
        [n, m].

        Raises:
            InputError: these are no results of ``encode_all`` of one model, or the weights are not three numbers of at
                least 0.

        """
        return hybrid_scores(queries, documents, weights)

    @staticmethod
    def hybrid_similarity_pairwise(
        queries: HybridEmbeddings, documents: HybridEmbeddings, weights: Sequence[float] = DEFAULT_WEIGHTS
    ) -> HybridScores:
        """Return the scores of query i with document i; each score is float32 [n].

        Raises:
            InputError: as ``hybrid_similarity``, or there are not as many queries as documents.

        """
        return hybrid_scores_pairwise(queries, documents, weights)

    def _check_hybrid_call(
        self, prompt_name: str | None, prompt: str | None, batch_size: int | None, task: str | None
    ) -> Call[NDArray[np.object_]]:
        """Check the arguments of a call for dense, sparse and multi-vector embeddings."""
        section = self._section
        if section.hybrid is None:
            raise InputError(
                "encode_all needs a bundle of a checkpoint with colbert_linear.pt and sparse_linear.pt (bge-m3), "
                f"exported without --outputs or with --outputs {EMBEDDING.output},{HYBRID_EMBEDDINGS}"
            )
        plan = HybridPostProcess(section.dimension, section.hybrid, EMBEDDING.post_process(section))
        return self._check_call(plan, prompt_name, prompt, batch_size, task, HYBRID_EMBEDDINGS)

    def _hybrid_blocks(
        self, call: Call[NDArray[np.object_]], texts: Iterable[str], on_texts: Callable[[int], object]
    ) -> Iterator[HybridEmbeddings]:
        read = deque[str]()

        def recorded() -> Iterator[str]:
            for text in texts:
                read.append(text)
                yield text

        for results in call.iterate(recorded(), on_texts):
            yield self._hybrid_embeddings(call, list(results), [read.popleft() for _ in results])

    def _hybrid_embeddings(
        self, call: Call[NDArray[np.object_]], results: list[TextVectors], texts: list[str]
    ) -> HybridEmbeddings:
        # Tokenized again: the graph's outputs do not have the ids.
        tokens = call.pipeline.tokenize(texts, call.prompt)
        plan = cast(HybridPostProcess, call.post_process)
        return hybrid_embeddings(results, tokens, plan, call.pipeline.specification.vocabulary_size)
