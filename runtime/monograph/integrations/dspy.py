"""DSPy: a bundle as ``dspy.Embedder``, and a retriever that embeds a corpus with it."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from numpy.typing import NDArray

from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.integrations.frameworks import BundlePath, check_texts_of, describe, missing, open_embedder

try:
    import dspy
    from dspy.retrievers import Embeddings
except ImportError as error:
    raise missing("dspy", error) from error

# Texts of a call: the runtime sorts them by length and makes batches of its own.
_TEXTS_PER_CALL = 4096


class MonographEmbedder(dspy.Embedder):
    """A bundle as embedder, with the model's default prompt.

    DSPy's cache knows a function by its source code, so that ``dspy.Embedder(model.encode)`` returns the vectors of one
    model for another that was used before. Here its keys have the model's fingerprint, and it is off by default.

    Args:
        model: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.
        batch_size: The number of texts that DSPy gives the model at a time.
        caching: Store vectors in DSPy's cache in memory and on disk.
        prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(
        self,
        model: Embedder | BundlePath,
        *,
        device: str | None = None,
        batch_size: int = _TEXTS_PER_CALL,
        caching: bool = False,
        prompt_name: str | None = None,
    ) -> None:
        embedder = open_embedder(model, device)

        def embed(texts: list[str], fingerprint: str, prompt_name: str | None) -> NDArray[Any]:  # noqa: ARG001  # a key
            return embedder.encode(texts, prompt_name=prompt_name)

        super().__init__(
            embed, batch_size=batch_size, caching=caching, fingerprint=embedder.fingerprint, prompt_name=prompt_name
        )
        # A function, which the copies that DSPy makes of a program share: of a model each would open its own.
        self._opened: Callable[[], Embedder] = lambda: embedder

    def __repr__(self) -> str:
        return describe(self, self._opened())

    async def acall(self, inputs: str | list[str], *arguments: Any, **options: Any) -> NDArray[Any]:
        """Return what a call returns, float32 [d] or [n, d]; it computes in a thread, and the event loop continues."""
        # DSPy itself calls the function in the event loop.
        vectors: NDArray[Any] = await asyncio.to_thread(self, inputs, *arguments, **options)
        return vectors


class MonographRetriever(Embeddings):
    """Passages of a corpus by their similarity to a query, in DSPy's own index.

    Passages have the model's prompt for documents and queries that for queries, if it has them.

    Args:
        corpus: The passages.
        model: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.
        k: The number of passages for a query.
        options: Other arguments of DSPy's ``Embeddings``.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument or a passage is not valid.

    """

    def __init__(
        self, corpus: list[str], model: Embedder | BundlePath, *, device: str | None = None, k: int = 5, **options: Any
    ) -> None:
        embedder = open_embedder(model, device)
        super().__init__(check_texts_of(corpus), embedder.encode_document, k=k, **options)
        # The corpus is embedded; what follows are queries.
        self.embedder = embedder.encode_query

    def __repr__(self) -> str:
        # A method of the model, unless the caller of ``load`` gave another function.
        return describe(self, getattr(self.embedder, "__self__", self.embedder))

    def load(self, path: str, embedder: Any) -> Self:
        """Load what ``save`` wrote, for queries embedded by a bundle.

        Args:
            path: The folder.
            embedder: The path of the bundle that embedded the corpus, or an open ``Embedder``; or a function from a
                list of str to vectors [n, d], as DSPy takes it.

        Raises:
            BundleError: the bundle is missing, damaged or of another task.
            DeviceError: no device can run the bundle.
            InputError: the argument is something else, or the bundle has vectors of another dimension.

        """
        model = None if callable(embedder) else open_embedder(embedder)
        super().load(path, embedder if model is None else model.encode_query)
        saved = self.corpus_embeddings.shape[1]
        if model is not None and model.dimension != saved:
            raise InputError(
                f"{path} has vectors of {saved} dimensions and the model of {model.dimension}: give the bundle that "
                "embedded the corpus"
            )
        return self
