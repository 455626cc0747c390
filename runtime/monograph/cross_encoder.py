"""CrossEncoder: score pairs of texts with a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.bundle import Check
from monograph.compat.arguments import Device, Pool, activation_name, check_ignored, either
from monograph.compat.configuration import LabelConfig, ModelWithConfig
from monograph.compat.model import FamiliarModel
from monograph.compat.options import OpenOptions
from monograph.errors import InputError
from monograph.inputs import Pair, check_count, check_flag, check_pairs
from monograph.quality import QualityLevel
from monograph.ranking import RankedDocument, check_query_and_documents, rank_documents
from monograph.tasks.rerank import RERANK, RerankSection, check_activation

if TYPE_CHECKING:
    from torch import Tensor

Pairs = Pair | Iterable[Any]


class CrossEncoder(FamiliarModel[RerankSection]):
    """A reranker or classifier of pairs of texts without torch: a bundle, opened on one device.

    Arguments, errors and the behavior with threads, pickling and forks are those of ``Embedder``, and so are the
    options of sentence-transformers, except for these:

    Args:
        activation_fn: As in ``predict``, in place of the model's default.
        max_length: The maximum number of tokens of a pair, at most the bundle's; None for that.
        num_labels: The number of labels that the model must have; None for any.

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

    __slots__ = ()
    _task = RERANK

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
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: object = None,
        **options: Unpack[OpenOptions],
    ) -> None:
        # Checked before the bundle is opened, which takes time.
        activation = None if activation_fn is None else check_activation(activation_name(activation_fn))
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
        try:
            if num_labels not in (None, self.num_labels):
                raise InputError(f"num_labels {num_labels}: this model has {self.num_labels}, leave num_labels out")
            if max_length is not None:
                self.max_seq_length = max_length
        except InputError:
            self.close()
            raise
        if activation is not None:
            self.activation_fn = activation

    @property
    def num_labels(self) -> int:
        """Number of scores per pair: 1 for a reranker, the number of classes for a classifier."""
        return self._section.num_labels

    @property
    def config(self) -> LabelConfig:
        """What a bundle has of the checkpoint's configuration: ``num_labels``."""
        return LabelConfig(self.num_labels)

    @property
    def model(self) -> ModelWithConfig:
        """What callers of ``model.model`` ask of it: ``config``, and ``num_labels`` there."""
        return ModelWithConfig(self.config)

    @property
    def activation_fn(self) -> str:
        """Name of the function that turns logits into scores: "Identity" or "Sigmoid".

        It can be set, also to torch's module of that name.
        """
        return self._section.activation

    @activation_fn.setter
    def activation_fn(self, value: object) -> None:
        activation = check_activation(activation_name(value))
        self._change_defaults(lambda defaults: defaults.with_options(activation=activation))

    @property
    def max_length(self) -> int | None:
        """``max_seq_length``; it can be set, too."""
        return super().max_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        self.max_seq_length = value

    @overload
    def predict(
        self,
        inputs: Pairs = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        activation_fn: object = ...,
        apply_softmax: bool | None = ...,
        convert_to_numpy: Literal[True] = ...,
        convert_to_tensor: Literal[False] = ...,
        device: Device | Sequence[Device] | None = ...,
        pool: Pool | None = ...,
        chunk_size: int | None = ...,
        *,
        sentences: Pairs | None = ...,
    ) -> NDArray[np.float32]: ...
    @overload
    def predict(
        self,
        inputs: Pairs = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        activation_fn: object = ...,
        apply_softmax: bool | None = ...,
        convert_to_numpy: bool = ...,
        *,
        convert_to_tensor: Literal[True],
        device: Device | Sequence[Device] | None = ...,
        pool: Pool | None = ...,
        chunk_size: int | None = ...,
        sentences: Pairs | None = ...,
    ) -> Tensor: ...
    @overload
    def predict(
        self,
        inputs: Pairs = ...,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
        activation_fn: object = ...,
        apply_softmax: bool | None = ...,
        convert_to_numpy: bool = ...,
        convert_to_tensor: bool = ...,
        device: Device | Sequence[Device] | None = ...,
        pool: Pool | None = ...,
        chunk_size: int | None = ...,
        *,
        sentences: Pairs | None = ...,
    ) -> NDArray[np.float32] | Tensor | list[Tensor]: ...
    def predict(
        self,
        inputs: Pairs | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: object = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Pairs | None = None,
        activation_fct: object = None,
        num_workers: int | None = None,  # noqa: ARG002  # of sentence-transformers, without effect there, too
    ) -> NDArray[np.float32] | Tensor | list[Tensor]:
        """Score one or many pairs of texts.

        Args:
            inputs: A list or tuple of two str, or a list, tuple, NumPy array [n, 2] or other iterable of such pairs;
                also by the name ``sentences``.
            prompt_name: Name of a prompt of the model, which is prepended to the first text of each pair; None for the
                model's default.
            prompt: Your own prompt; takes precedence over ``prompt_name``. "" for no prompt.
            batch_size: The maximum number of pairs in a batch; batches of long pairs have fewer. None for the fastest
                choice.
            show_progress_bar: True or False; None shows it if this package logs at INFO or DEBUG.
            activation_fn: "Identity" for logits, "Sigmoid", torch's module of one of these names, or None for the
                model's own.
            apply_softmax: Convert the scores of each pair to probabilities, if there is more than one label.
            convert_to_numpy: False, with ``convert_to_tensor`` False, returns a list of torch tensors, and for one pair
                a tensor.
            convert_to_tensor: Return a torch tensor. This needs torch, which is imported at the call.
            device: None, or the model's own.
            pool: None, or what ``start_multi_process_pool`` returned. The engine uses every CPU without one.
            chunk_size: Has no effect.
            sentences: ``inputs`` by a former name in sentence-transformers.
            activation_fct: ``activation_fn`` by a former name.
            num_workers: Has no effect, as in sentence-transformers.

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
        if sentences is not None:
            inputs = either(inputs=inputs, sentences=sentences)
        if activation_fct is not None:
            activation_fn = either(activation_fn=activation_fn, activation_fct=activation_fct)
        check_ignored(self.device, device=device, pool=pool, chunk_size=chunk_size)
        if convert_to_tensor or not convert_to_numpy:
            tensors.import_torch()
        pairs, single = check_pairs(inputs)
        plan = RERANK.post_process(
            self._section, activation_fn=activation_name(activation_fn), apply_softmax=apply_softmax
        )
        scores = self._run(pairs, self._check_call(plan, prompt_name, prompt, batch_size), show_progress_bar)
        if self.num_labels == 1:
            scores = scores[:, 0]
        if single:
            scores = np.asarray(scores[0])
        if convert_to_tensor or not convert_to_numpy:
            return tensors.to_torch(scores, as_list=not (convert_to_tensor or single))
        return scores

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
        activation_fn: object = None,
        device: Device | Sequence[Device] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        activation_fct: object = None,
        num_workers: int | None = None,  # noqa: ARG002  # of sentence-transformers, without effect there, too
        apply_softmax: bool | None = None,  # noqa: ARG002  # likewise
        convert_to_numpy: bool | None = None,  # noqa: ARG002  # likewise
        convert_to_tensor: bool | None = None,  # noqa: ARG002  # likewise
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
            device: As in ``predict``.
            pool: As in ``predict``.
            chunk_size: As in ``predict``.
            activation_fct: As in ``predict``.
            num_workers: Has no effect, as in sentence-transformers.
            apply_softmax: Has no effect: there is one score per document.
            convert_to_numpy: Has no effect: scores are float.
            convert_to_tensor: Has no effect.

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
        query, texts = check_query_and_documents(query, documents)
        scores: list[float] = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn=either(activation_fn=activation_fn, activation_fct=activation_fct),
            device=device,
            pool=pool,
            chunk_size=chunk_size,
        ).tolist()
        return rank_documents(scores, texts, limit, with_texts=with_texts)
