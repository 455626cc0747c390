"""Texts through tokenizer, batches and engine, back in the order they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch, assemble, plan_batches
from monograph.bundle import Bundle
from monograph.engines import Engine, open_engine
from monograph.errors import BundleError
from monograph.threads import available_cpus
from monograph.tokenization import TextTokenizer, TokenizedTexts

Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """A bundle's tokenizer and its graph on an engine: what every task of monograph runs on."""

    tokenizer: TextTokenizer
    engine: Engine
    input_names: tuple[str, ...]
    pad_id: int
    output_width: int

    def outputs(
        self,
        texts: Sequence[str],
        batch_size: int | None = None,
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> Outputs:
        """Return the graph's output for each text, float32 [n, ``output_width``], in the texts' order.

        ``on_batch`` is told the number of texts of each batch as it is done.
        """
        result = np.empty((len(texts), self.output_width), dtype=np.float32)
        tokens = self.tokenizer(texts)
        plan = plan_batches(tokens.lengths, self.engine.tokens_per_batch, batch_size)
        for batch, vectors in self.engine.stream(self.batches(tokens, plan)):
            result[batch.rows] = vectors
            on_batch(len(batch.rows))
        return result

    def batches(self, tokens: TokenizedTexts, plan: Iterator[NDArray[np.intp]]) -> Iterator[TokenBatch]:
        """Yield the batches of a plan, each padded only when it is asked for."""
        return (assemble(tokens, rows, self.input_names, self.pad_id) for rows in plan)


def open_pipeline(bundle: Bundle, *, device: str, compute_dtype: str, threads: int | None) -> Pipeline:
    """Load the tokenizer and the graph of a bundle; ``threads`` of None means every CPU this process may use.

    Raises:
        BundleError: a file cannot be loaded or does not fit the manifest.
        DeviceError: the device cannot run the bundle here.

    """
    tokenizer = TextTokenizer(bundle.tokenizer_path)
    manifest = bundle.manifest
    if tokenizer.max_length != manifest.tokenizer.max_length:
        found, stated = tokenizer.max_length, manifest.tokenizer.max_length
        raise BundleError(bundle.path, [f"the tokenizer truncates to {found} tokens, the manifest says {stated}"])
    engine = open_engine(bundle, device, compute_dtype, available_cpus() if threads is None else threads)
    return Pipeline(
        tokenizer, engine, tuple(engine.graph.inputs), manifest.tokenizer.pad_id, manifest.embedding.dimension
    )
