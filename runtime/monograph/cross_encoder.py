"""CrossEncoder: score pairs of texts with a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inputs import Pair, check_count, check_flag, check_named, check_pairs, check_texts
from monograph.model import Model
from monograph.tasks.rerank import RERANK, RerankSection

Pairs = Pair | Iterable[Any]


class RankedDocument(TypedDict):
    """A ranked document: its position in ``documents``, its score and, with ``return_documents``, its text."""

    corpus_id: int
    score: float
    text: NotRequired[str]


class CrossEncoder(Model[RerankSection]):
    """A reranker or classifier of pairs of texts without torch: a bundle, opened on one device.

    Arguments, errors and the behavior with threads, pickling and forks are those of ``Embedder``.

    Examples:
        >>> model = CrossEncoder(bundle, device="cpu")
        >>> model.num_labels
        1
        >>> documents = ["Berlin has 3.5 million people.", "He drove to the stadium."]
        >>> [best] = model.rank("How many people live in Berlin?", documents, top_k=1, return_documents=True)
        >>> sorted(best)
        ['corpus_id', 'score', 'text']
        >>> model.predict([("a query", "a document"), ("a query", "another")]).shape
        (2,)

    """

    _task = RERANK

    @property
    def num_labels(self) -> int:
        """Number of scores per pair: 1 for a reranker, the number of classes for a classifier."""
        return self._section.num_labels

    def predict(
        self,
        inputs: Pairs,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        activation_fn: str | None = None,
        apply_softmax: bool = False,
    ) -> NDArray[np.float32]:
        """Score one or many pairs of texts.

        Args:
            inputs: A list or tuple of two str, or a list, tuple, NumPy array [n, 2] or other iterable of such pairs.
            prompt_name: Name of a prompt of the model, which is prepended to the first text of each pair; None for the
                model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of pairs in a batch; batches of long pairs have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            activation_fn: "Identity" for logits, "Sigmoid", or None for the model's own.
            apply_softmax: Convert the scores of each pair to probabilities, if there is more than one label.

        Returns:
            float32. With one label: [] for one pair, [n] for n pairs. With more: [labels] and [n, labels].

        Raises:
            InputError: a pair or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        Examples:
            >>> model = CrossEncoder(bundle, device="cpu")
            >>> model.predict(("a query", "a document")).shape
            ()
            >>> model.predict([("a query", "a document"), ("a query", "another")], activation_fn="Identity").dtype
            dtype('float32')

        """
        pairs, single = check_pairs(inputs)
        plan = RERANK.post_process(self._section, activation_fn=activation_fn, apply_softmax=apply_softmax)
        scores = self._run(pairs, self._check_call(plan, prompt_name, prompt, batch_size), show_progress_bar)
        if self.num_labels == 1:
            scores = scores[:, 0]
        return np.asarray(scores[0]) if single else scores

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        activation_fn: str | None = None,
    ) -> list[RankedDocument]:
        """Return documents by their scores for a query, highest first; equal scores keep the documents' order.

        Args:
            query: The query.
            documents: A list, tuple, NumPy array or pandas column of str.
            top_k: The maximum number of documents to return; None for all.
            return_documents: Also return the texts, as ``text``.
            prompt_name: As in ``predict``.
            prompt: As in ``predict``.
            batch_size: As in ``predict``.
            show_progress_bar: As in ``predict``.
            activation_fn: As in ``predict``.

        Raises:
            InputError: the model has more than one label, or the query, a document or an option is not valid.
            MonographError: the engine failed, or the model was closed.

        Examples:
            >>> model = CrossEncoder(bundle, device="cpu")
            >>> ranked = model.rank("a query", ["a document", "another", "a third"])
            >>> sorted(document["corpus_id"] for document in ranked)
            [0, 1, 2]
            >>> ranked[0]["score"] >= ranked[1]["score"] >= ranked[2]["score"]
            True

        """
        if self.num_labels != 1:
            raise InputError(
                f"rank needs a model with one label, and this one has {self.num_labels}: use predict with pairs"
            )
        limit = None if top_k is None else check_count(top_k, "top_k")
        with_texts = check_flag(return_documents, "return_documents")
        if isinstance(documents, str):
            raise InputError("documents must be a list of str, got str")
        query, texts = check_named(query, "query"), check_texts(documents)
        scores: list[float] = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn=activation_fn,
        ).tolist()
        order = sorted(range(len(texts)), key=scores.__getitem__, reverse=True)[:limit]
        if with_texts:
            return [{"corpus_id": i, "score": scores[i], "text": texts[i]} for i in order]
        return [{"corpus_id": i, "score": scores[i]} for i in order]
