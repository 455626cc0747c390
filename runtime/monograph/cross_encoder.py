"""CrossEncoder: pairs of texts to scores with a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from monograph.counts import checked_count
from monograph.errors import InputError
from monograph.inputs import Pair
from monograph.model import Model
from monograph.scores import plan_scores
from monograph.texts import checked_named, checked_pairs, checked_texts

Pairs = Pair | Iterable[Any]


class Ranked(TypedDict):
    """A document of ``rank``: where it stood among the documents, its score, and if asked for its text."""

    corpus_id: int
    score: float
    text: NotRequired[str]


class CrossEncoder(Model):
    """A reranker or classifier of pairs without torch: one graph, one device, ``predict`` and ``rank``.

    Args:
        path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: "auto", "cpu", "openvino", "openvino:" and a name of OpenVINO's, "cuda", "cuda:1", as for ``Embedder``.
        compute_dtype: The type to multiply in: "float32", "bfloat16", "float16", or "auto" for the narrowest that the
            hardware multiplies in by itself.
        threads: CPU threads of the engine; None for every CPU that affinity mask and cgroup quota allow.
        check: "fast" compares the hashes of the small files and the size of the weights, "full" hashes all.
        cache_dir: Folder for what can be computed or downloaded again; None for MONOGRAPH_CACHE or the user's cache.
        max_tokens_per_batch: The most tokens, padding included, in a batch of several pairs, whatever ``batch_size``
            says; it bounds the memory of batches. A longer pair is a batch by itself. None for what is fastest.

    A model may be used from many threads. Pickled, it opens the bundle again where it is first used. After a fork it
    raises, for an engine's threads are not in the child.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem, or is no reranker's.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """

    _task = "rerank"
    _inputs = "pairs"

    @property
    def num_labels(self) -> int:
        """Scores of a pair: 1 for a reranker, the number of classes for a classifier."""
        return self.manifest.need_rerank().num_labels

    def predict(
        self,
        inputs: Pairs,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: str | None = None,
        apply_softmax: bool = False,
    ) -> NDArray[np.float32]:
        """Score one pair of texts or many.

        Args:
            inputs: A list or tuple of two str, or a list, tuple, NumPy array [n, 2] or other iterable of such pairs.
            prompt_name: Name of a prompt of the model, put before the first text of each pair; None for the default.
            prompt: A prompt of your own; wins over ``prompt_name``. "" for none at all.
            batch_size: The most pairs in a batch, fewer of long ones; None lets batches be as large as is fastest.
            show_progress_bar: True or False; None shows it where this package logs at INFO or DEBUG.
            activation_fn: "Identity" for logits, "Sigmoid", or None for the model's own.
            apply_softmax: Turn the scores of each pair into probabilities, where there is more than one label.

        Returns:
            Where the model has one label, float32 [] for one pair and [n] for n; where it has more, [labels] and
            [n, labels].

        Raises:
            InputError: a pair or an option is not usable.
            MonographError: the engine failed, or the model was closed.

        """
        pairs, single = checked_pairs(inputs)
        scores = self._scores(pairs, prompt_name, prompt, batch_size, show_progress_bar, activation_fn, apply_softmax)
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
        activation_fn: str | None = None,
    ) -> list[Ranked]:
        """Return documents by their scores for a query, highest first; equal ones stay in their order.

        Args:
            query: What is asked.
            documents: A list, tuple, NumPy array or pandas column of str.
            top_k: The most documents to return; None for all.
            return_documents: Return their texts as well, as ``text``.
            prompt_name: As in ``predict``.
            prompt: As in ``predict``.
            batch_size: As in ``predict``.
            show_progress_bar: As in ``predict``.
            activation_fn: As in ``predict``.

        Raises:
            InputError: the model has more than one label, or the query, a document or an option is not usable.
            MonographError: the engine failed, or the model was closed.

        """
        if self.num_labels != 1:
            raise InputError(
                f"rank needs a model with one label, and this one has {self.num_labels}: use predict with pairs"
            )
        most = None if top_k is None else checked_count(top_k, "top_k")
        if isinstance(documents, str):
            raise InputError("documents must be a list of str, got str")
        asked, texts = checked_named(query, "query"), checked_texts(documents)
        pairs = [(asked, text) for text in texts]
        found = self._scores(pairs, prompt_name, prompt, batch_size, show_progress_bar, activation_fn, False)
        scores: list[float] = found[:, 0].tolist()
        best = sorted(range(len(texts)), key=scores.__getitem__, reverse=True)[:most]
        if return_documents:
            return [{"corpus_id": i, "score": scores[i], "text": texts[i]} for i in best]
        return [{"corpus_id": i, "score": scores[i]} for i in best]

    def _scores(
        self,
        pairs: list[Pair],
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        activation_fn: str | None,
        apply_softmax: bool,
    ) -> NDArray[np.float32]:
        """Return the scores of pairs, float32 [n, labels]."""
        scoring = plan_scores(self.manifest.need_rerank(), activation_fn, apply_softmax)
        before = self._prompt(prompt_name, prompt)
        size = None if batch_size is None else checked_count(batch_size, "batch_size")
        return self._results(pairs, self._open.routes.main, scoring, before, size, show_progress_bar)
