"""The contract of an engine: run one graph on one device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch
from monograph.bundle.manifest import Graph


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine.

    ``device`` is the requested one, an engine's kind with an optional ":" and a name; ``compute_dtype`` is one of the
    engine's own types; ``threads`` counts CPU threads; ``cache`` is the cache folder, which need not exist, or None for
    no cache. ``packed_only`` refuses to run from anything but packed weights in the cache, which are to be proven.
    """

    device: str
    compute_dtype: str
    threads: int
    cache: Path | None
    packed_only: bool = False


class Engine(ABC):
    """A graph loaded on a device; ``run`` and ``stream`` are safe from many threads.

    Attributes:
        name: The engine's name, ``version`` its package's.
        graph: The manifest's entry of the graph.
        device: The device that runs the graph, spelled as users name it.
        compute_dtype: The type that the engine multiplies in.
        threads: Its number of CPU threads.
        tokens_per_batch: The cost of a batch, in padded tokens, at which the engine is fastest.
        run_cost: What a batch costs besides its tokens, in tokens; None where batches are to be as large as possible.
        max_concurrency: How many small calls it runs in parallel.
        padding_buckets: The lengths that batches are padded to (int64 [k], ascending), None for any.
        min_cosine: The lowest correct cosine to the reference in its compute dtype, None where nothing rounds.

    """

    name: ClassVar[str]
    graph: Graph
    device: str
    compute_dtype: str
    threads: int
    version: str
    tokens_per_batch: int
    run_cost: float | None = None
    max_concurrency: int = 1
    padding_buckets: NDArray[np.int64] | None = None
    min_cosine: float | None = None

    @abstractmethod
    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        """Run one batch, inputs int64 [b, s] by name, and return the graph's output, float32 [b, d].

        ``output`` names another than the graph's first; one of the tokens is float32 [b, s, d].

        Raises:
            MonographError: the engine failed, was closed, or was opened before this process was forked.

        """

    def stream(
        self, batches: Iterable[TokenBatch], output: str | None = None
    ) -> Iterator[tuple[TokenBatch, NDArray[np.float32]]]:
        """Run many batches, consumed lazily, and yield each with its output, that of ``run``, in any order."""
        for batch in batches:
            yield batch, self.run(batch.inputs, output)

    def prepare(self, cache: Path) -> Path | None:  # noqa: ARG002
        """Write what speeds up the next start of this engine to a cache folder, unless its own cache has that.

        Returns:
            The place of its folder within the cache folder, None for an engine without.

        Raises:
            OSError: it cannot be written.
            MonographError: the engine cannot write it.

        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Free the graph; a later run is an error."""
