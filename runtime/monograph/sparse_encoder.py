"""SparseEncoder: texts to vectors of which most values are 0, with a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph import prompts as prompting
from monograph.batching import deduplicate, windows
from monograph.bundle.manifest import SPARSE
from monograph.counts import checked_count
from monograph.model import Model
from monograph.pipeline import Pipeline
from monograph.progress import progress
from monograph.sparse import arrays
from monograph.sparse.rows import Active, SparseRows, active_rows, in_order, join
from monograph.texts import Texts, checked_stream, checked_text, checked_texts

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class _Call:
    """The checked options of a call; ``most`` is how many of a vector's largest values are kept, None for all."""

    pipeline: Pipeline
    prompt: str
    batch_size: int | None
    most: int | None


class SparseEncoder(Model):
    """A sparse encoder (SPLADE, or inference-free) without torch: one graph, one device, vectors over a vocabulary.

    Args:
        path: The bundle's folder, or ORG/NAME or ORG/NAME@REVISION of a bundle on the Hugging Face Hub.
        device: "auto", "cpu", "openvino", "openvino:" and a name of OpenVINO's, "cuda", "cuda:1", as for ``Embedder``.
        compute_dtype: The type to multiply in: "float32", "bfloat16", "float16", or "auto" for the narrowest that the
            hardware multiplies in by itself.
        threads: CPU threads of the engine; None for every CPU that affinity mask and cgroup quota allow.
        check: "fast" compares the hashes of the small files and the size of the weights, "full" hashes all.
        cache_dir: Folder for what can be computed or downloaded again; None for MONOGRAPH_CACHE or the user's cache.
        max_tokens_per_batch: The most tokens, padding included, in a batch of several texts, whatever ``batch_size``
            says; it bounds the memory of batches. A longer text is a batch by itself. None for what is fastest.

    A model may be used from many threads. Pickled, it opens the bundle again where it is first used. After a fork it
    raises, for an engine's threads are not in the child. SciPy, the extra ``sparse``, is needed for all but
    ``encode_active`` and ``encode_active_iter``.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem, or is no sparse encoder's.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """

    _task = SPARSE
    _inputs = "texts"

    @property
    def dimension(self) -> int:
        """Columns of a vector: tokens of the vocabulary."""
        return self.manifest.need_sparse().dimension

    def encode(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        max_active_dims: int | None = None,
        task: str | None = None,
    ) -> csr_array:
        """Encode one text or many.

        Args:
            texts: A str, or a list, tuple, NumPy array or pandas column of str.
            prompt_name: Name of a prompt of the model, put before each text; None for the model's default.
            prompt: A prompt of your own; wins over ``prompt_name``. "" for none at all.
            batch_size: The most texts in a batch, fewer of long ones; None lets batches be as large as is fastest.
            show_progress_bar: True or False; None shows it where this package logs at INFO or DEBUG.
            max_active_dims: Keep only so many of a vector's largest values; None for the model's default.
            task: What the texts are to a model with a Router, "query" or "document" for example; None for its default.

        Returns:
            A ``scipy.sparse.csr_array`` of float32: [n, d] for n texts, [0, d] for none, [d] for one text.

        Raises:
            InputError: a text or an option is not usable.
            MonographError: the engine failed, the model was closed, or SciPy is not installed.

        """
        arrays.check_installed()
        single = isinstance(texts, str)
        call = self._call(prompt_name, prompt, batch_size, max_active_dims, task)
        rows = self._encoded(texts, call, show_progress_bar)
        found = arrays.to_csr(rows, self.dimension)
        # A row of a csr_array is a coo_array.
        return found[0].tocsr() if single else found

    def encode_query(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        max_active_dims: int | None = None,
    ) -> csr_array:
        """Encode queries: ``encode`` with the model's "query" prompt where it has one and none is given.

        A model with a Router takes the route of the task "query".

        Arguments, results (csr_array float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        prompt_name = self._prompt_name(prompting.QUERY_PROMPTS, prompt_name, prompt)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, max_active_dims, self._routed("query")
        )

    def encode_document(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        max_active_dims: int | None = None,
    ) -> csr_array:
        """Encode documents: ``encode`` with the model's "document", "passage" or "corpus" prompt, if it has one.

        A model with a Router takes the route of the task "document".

        Arguments, results (csr_array float32 [d] or [n, d]) and errors are those of ``encode``.
        """
        prompt_name = self._prompt_name(prompting.DOCUMENT_PROMPTS, prompt_name, prompt)
        return self.encode(
            texts, prompt_name, prompt, batch_size, show_progress_bar, max_active_dims, self._routed("document")
        )

    def encode_active(
        self,
        texts: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        max_active_dims: int | None = None,
        task: str | None = None,
    ) -> list[Active]:
        """Encode texts as ``encode`` does and return each vector's columns and values, as indexes take them.

        Returns:
            For each text its columns, int32 [k] and ascending, and their values, float32 [k]; one text is a list of
            one. SciPy is not needed.

        Raises:
            InputError: a text or an option is not usable.
            MonographError: the engine failed, or the model was closed.

        """
        call = self._call(prompt_name, prompt, batch_size, max_active_dims, task)
        return self._encoded(texts, call, show_progress_bar).each()

    def encode_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        max_active_dims: int | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        task: str | None = None,
    ) -> Iterator[csr_array]:
        """Encode any iterable of texts and yield blocks of vectors, csr_array [k, d], in order, in constant memory.

        The arguments are those of ``encode``; options are checked at the call, texts as they come. ``on_texts`` is
        told how many more texts are done, batch by batch, for a progress bar.

        Raises:
            InputError: a text or an option is not usable.
            MonographError: SciPy is not installed.

        """
        arrays.check_installed()
        call = self._call(prompt_name, prompt, batch_size, max_active_dims, task)
        return (arrays.to_csr(rows, self.dimension) for rows in self._rows(checked_stream(texts), call, on_texts))

    def encode_active_iter(
        self,
        texts: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        max_active_dims: int | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
        task: str | None = None,
    ) -> Iterator[list[Active]]:
        """Encode any iterable of texts and yield blocks of what ``encode_active`` returns, in constant memory.

        The arguments are those of ``encode_iter``; SciPy is not needed.

        Raises:
            InputError: a text or an option is not usable.

        """
        call = self._call(prompt_name, prompt, batch_size, max_active_dims, task)
        return (rows.each() for rows in self._rows(checked_stream(texts), call, on_texts))

    def similarity(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Return the model's similarity of every vector of ``first`` [n, d] with every one of ``second`` [m, d].

        Vectors are csr_arrays or dense arrays; the result is dense, float32 [n, m].

        Raises:
            InputError: the shapes do not fit.
            MonographError: SciPy is not installed.

        """
        return arrays.similarity(self.manifest.need_sparse().similarity, first, second)

    def similarity_pairwise(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Return the model's similarity of vector i of ``first`` and of ``second`` (both [n, d]), float32 [n].

        Raises:
            InputError: the shapes differ.
            MonographError: SciPy is not installed.

        """
        return arrays.similarity_pairwise(self.manifest.need_sparse().similarity, first, second)

    def decode(self, embeddings: Any, top_k: int | None = None) -> list[Any]:
        """Return each vector's tokens with their weights, the heaviest first; of equal ones the lower column first.

        Args:
            embeddings: Vectors [n, d], or one [d], as csr_array or dense.
            top_k: The most tokens of a vector; None for all that are not 0.

        Returns:
            For vectors [n, d] n lists of pairs of token (str) and weight (float), for one vector [d] its list.

        Raises:
            InputError: these are no vectors of this model, or ``top_k`` is no count.
            MonographError: SciPy is not installed.

        """
        most = None if top_k is None else checked_count(top_k, "top_k")
        found = arrays.checked_rows(embeddings, self.dimension)
        tokens = self._open.routes.main.tokenizer
        decoded = []
        for start, end in zip(found.indptr[:-1], found.indptr[1:], strict=True):
            columns, values = found.indices[start:end], found.data[start:end]
            heaviest = [place for place in np.lexsort((columns, -values)) if values[place]][:most]
            decoded.append([(tokens.token(int(columns[place])), float(values[place])) for place in heaviest])
        return decoded if np.ndim(embeddings) == 2 else decoded[0]

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return the mean ``active_dims`` of vectors, [n, d] or [d], and their ``sparsity_ratio``, the share of zeros.

        Raises:
            InputError: these are no vectors.
            MonographError: SciPy is not installed.

        """
        return arrays.sparsity(embeddings)

    @staticmethod
    def intersection(first: Any, second: Any) -> csr_array:
        """Return the products of one vector's values [d] with those of others, [n, d] or [d], where above 0.

        Returns:
            csr_array float32 of the shape of ``second``.

        Raises:
            InputError: ``first`` is more than one vector, or the dimensions differ.
            MonographError: SciPy is not installed.

        """
        return arrays.intersection(first, second)

    def _call(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        max_active_dims: int | None,
        task: str | None,
    ) -> _Call:
        """Check the options of a call against the model."""
        most = self.manifest.need_sparse().max_active_dims
        return _Call(
            self._open.routes.of_task(task),
            self._prompt(prompt_name, prompt),
            None if batch_size is None else checked_count(batch_size, "batch_size"),
            most if max_active_dims is None else checked_count(max_active_dims, "max_active_dims"),
        )

    def _encoded(self, texts: Texts, call: _Call, show_progress_bar: bool | None) -> SparseRows:
        """Return the vectors of texts in their order; equal texts are computed once."""
        checked = [checked_text(texts, 0)] if isinstance(texts, str) else checked_texts(texts)
        unique, positions = deduplicate(checked)
        with progress(len(checked), show_progress_bar, self._inputs) as on_batch:
            found = join(list(self._rows(unique, call, on_batch)))
            on_batch(len(checked) - len(unique))
        return found if positions is None else found.take(positions)

    def _rows(self, texts: Iterable[str], call: _Call, on_batch: Callable[[int], object]) -> Iterator[SparseRows]:
        """Yield the vectors of checked texts in their order, in blocks and in constant memory."""
        for window in windows(texts):
            unique, positions = deduplicate(window)
            # Made sparse batch by batch: the dense outputs of a window would be gigabytes.
            batches = call.pipeline.stream(unique, call.batch_size, on_batch, call.prompt)
            rows = in_order(((places, active_rows(outputs, call.most)) for places, outputs in batches), len(unique))
            on_batch(len(window) - len(unique))
            yield rows if positions is None else rows.take(positions)
