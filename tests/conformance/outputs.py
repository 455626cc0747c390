"""What a bundle's graphs give of its probes: computed by Python, and how far another reader is from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.check import MAX_DIFFERENCE, MIN_COSINE
from monograph.bundle import Bundle, open_bundle, read_probes
from monograph.inference.opening import open_routes

# Precisions whose graphs compute in float32.
_FLOAT32 = ("fp32", "int8-weights")


@dataclass(frozen=True)
class Expected:
    """A set of probes of a precision: ``vectors`` are what ONNX Runtime gives on this machine, each text alone.

    ``call`` are the options of a call in JavaScript that computes the same.
    """

    precision: str
    is_scores: bool
    inputs: list[Any]
    call: dict[str, str]
    vectors: NDArray[np.float32]

    def compare(self, rows: Sequence[Any]) -> Difference:
        """Compare with vectors, which are lists of values or, where most are 0, pairs of columns and values."""
        found = np.zeros_like(self.vectors)
        for row, values in zip(found, rows, strict=True):
            if len(values) == 2 and isinstance(values[0], list):
                row[values[0]] = values[1]
            else:
                row[:] = values
        # A score alone has no direction: all of them have one.
        pair = [one.reshape(1, -1) if self.is_scores else one for one in (found, self.vectors)]
        norms = np.linalg.norm(pair[0], axis=1) * np.linalg.norm(pair[1], axis=1)
        cosines = np.where(norms > 0, np.sum(pair[0] * pair[1], axis=1) / np.maximum(norms, 1e-30), 1)
        largest = max(1.0, float(np.abs(self.vectors).max()))
        return Difference(float(np.abs(found - self.vectors).max()) / largest, float(cosines.min()))

    def failure(self, difference: Difference) -> str:
        """Return what is wrong with a reader that differs so much, "" if nothing is."""
        # NaN is neither larger nor smaller.
        if self.precision in _FLOAT32 and not difference.max_abs <= MAX_DIFFERENCE:
            return f"max abs difference {difference.max_abs:.2e}"
        return "" if difference.worst_cosine >= MIN_COSINE else f"worst cosine {difference.worst_cosine:.6f}"


@dataclass(frozen=True)
class Difference:
    """The largest difference, relative to the largest value if that is above 1, and the least cosine of a vector.

    Of scores it is the cosine of all of them.
    """

    max_abs: float
    worst_cosine: float


def expected_outputs(path: Path, *, step: int = 1, max_tokens: int | None = None) -> Iterator[Expected]:
    """Yield every set of probes of every precision, of each every ``step``-th probe up to ``max_tokens``."""
    for bundle in open_bundle(path).by_precision:
        with closing(open_routes(bundle, device="cpu", compute_dtype="float32", threads=1)) as routes:
            for probes in read_probes(path, bundle.manifest.output_width, bundle.probes_file):
                pipeline = routes.pipelines[probes.route]
                inputs = [
                    text
                    for text, tokens in zip(probes.texts[::step], probes.token_counts[::step], strict=True)
                    if max_tokens is None or tokens <= max_tokens
                ]
                vectors = [pipeline.runner.run(pipeline.tokenize([text], probes.prompt))[0] for text in inputs]
                yield Expected(
                    routes.main.engine.graph.precision,
                    bundle.manifest.task == "rerank",
                    inputs,
                    {"prompt": probes.prompt} | _task_of(bundle, probes.route),
                    np.stack(vectors),
                )


def _task_of(bundle: Bundle, route: str | None) -> dict[str, str]:
    """Return the option of a call that selects a route, if the model has routes."""
    routing = bundle.manifest.routing
    if routing is None:
        return {}
    return {"task": next(task for task, one in routing.tasks.items() if one == route)}
