"""monograph's own classes: a bundle of any task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import monograph
from adapters.base import Call, LibraryModel, Model, versions
from monograph.bundle import open_bundle
from monograph.inference.opening import open_routes


class _Bundle(LibraryModel):
    def __init__(self, bundle: str, model: Any, call: Call) -> None:
        super().__init__(model, call)
        self._bundle = bundle

    def to_array(self, results: Any) -> NDArray[np.float32]:
        # Sparse vectors are SciPy's.
        return super().to_array(results.toarray() if hasattr(results, "toarray") else results)

    def padding_share(self, texts: list[Any]) -> float | None:
        # An engine of its own, for the model's is its own affair.
        model = self._model
        routes = open_routes(
            open_bundle(self._bundle), device=model.device, compute_dtype=model.compute_dtype, threads=model.threads
        )
        try:
            tokens, runner = routes.main.tokenize(texts), routes.main.runner
            batches = runner.pad(tokens, runner.plan(tokens))
            computed: int = sum(batch.inputs["input_ids"].size for batch in batches)
        finally:
            routes.close()
        return 1 - int(tokens.lengths.sum()) / computed

    def describe(self) -> dict[str, str]:
        return versions(["monograph"]) | {
            "bundle": self._model.fingerprint,
            "engine": self._model.engine,
            "device": self._model.device,
            "compute_dtype": self._model.compute_dtype,
            "threads": str(self._model.threads),
        }


def load(*, bundle: str, device: str, compute_dtype: str, threads: int, call: dict[str, Any]) -> Model:
    """Open a bundle as a model of its task's class."""
    model = monograph.load(bundle, device=device, compute_dtype=compute_dtype, threads=threads)
    return _Bundle(bundle, model, Call(**call))
