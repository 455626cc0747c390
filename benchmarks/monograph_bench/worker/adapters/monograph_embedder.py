"""monograph itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.contract import Model, versions
from monograph import Embedder
from monograph.bundle import open_bundle
from monograph.opening import open_routes


class _Monograph(Model):
    def __init__(self, bundle: str, device: str, compute_dtype: str, threads: int) -> None:
        self._bundle = bundle
        self._embedder = Embedder(bundle, device=device, compute_dtype=compute_dtype, threads=threads)

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        # No prompt, as no other system adds one.
        return self._embedder.encode(texts, prompt="", batch_size=batch_size)

    def padding_share(self, texts: list[str]) -> float | None:
        # An engine of its own, for the embedder's is its own affair.
        embedder = self._embedder
        routes = open_routes(
            open_bundle(self._bundle),
            device=embedder.device,
            compute_dtype=embedder.compute_dtype,
            threads=embedder.threads,
        )
        try:
            pipeline = routes.main
            tokens = pipeline.tokenize(texts)
            batches = pipeline.batches(tokens, pipeline.plan(tokens))
            computed = sum(batch.inputs["input_ids"].size for batch in batches)
        finally:
            routes.close()
        return 1 - int(tokens.lengths.sum()) / computed

    def described(self) -> dict[str, str]:
        embedder = self._embedder
        return versions(["monograph"]) | {
            "bundle": embedder.fingerprint,
            "engine": embedder.engine,
            "device": embedder.device,
            "compute_dtype": embedder.compute_dtype,
            "threads": str(embedder.threads),
        }


def load(*, bundle: str, device: str, compute_dtype: str, threads: int) -> Model:
    """Open a bundle."""
    return _Monograph(bundle, device, compute_dtype, threads)
