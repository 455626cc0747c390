"""What a server counts, for Prometheus."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from monograph.server.engine_queue import Batch

# Of prometheus-client: where the processes of a server write what they count. It reads it at its import.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class ModelMetrics:
    """The figures of one model."""

    texts: Counter
    tokens: Counter
    queued_tokens: Gauge
    waited: Histogram
    computed: Histogram
    batch_rows: Histogram
    batch_tokens: Counter
    engine_seconds: Counter

    def count_batch(self, batch: Batch) -> None:
        """Count a batch that was computed."""
        self.batch_rows.observe(batch.rows)
        self.batch_tokens.inc(batch.tokens)
        self.engine_seconds.inc(batch.seconds)


class Metrics:
    """All figures of a server, of this process or, with several workers, of all of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        name, registry = "monograph", self._registry
        self.requests = Counter(
            f"{name}_requests", "Requests that were answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            f"{name}_request_seconds",
            "Seconds from the headers of a request to its response.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            f"{name}_requests_in_flight",
            "Requests that are being received or computed.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        model = ("model",)
        self._texts = Counter(f"{name}_texts", "Texts or pairs that were computed.", model, registry=registry)
        self._tokens = Counter(f"{name}_tokens", "Tokens of these texts.", model, registry=registry)
        self._queued = Gauge(
            f"{name}_queued_tokens",
            "Tokens that wait or are being computed.",
            model,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._waited = Histogram(
            f"{name}_wait_seconds",
            "Seconds before a request's first batch.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._computed = Histogram(
            f"{name}_compute_seconds",
            "Seconds from a request's first batch to the end of its last.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            f"{name}_batch_rows", "Texts or pairs of a batch.", model, buckets=_ROWS, registry=registry
        )
        self._batch_tokens = Counter(
            f"{name}_batch_tokens", "Tokens of the batches, without padding.", model, registry=registry
        )
        self._engine = Counter(
            f"{name}_engine_seconds", "Seconds in which the engine computed.", model, registry=registry
        )
        self._by_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def of_model(self, name: str) -> ModelMetrics:
        """Return the figures of a model."""
        return ModelMetrics(
            self._texts.labels(name),
            self._tokens.labels(name),
            self._queued.labels(name),
            self._waited.labels(name),
            self._computed.labels(name),
            self._rows.labels(name),
            self._batch_tokens.labels(name),
            self._engine.labels(name),
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = route, status
        if key not in self._by_route:
            self._by_route[key] = self.requests.labels(route, str(status)), self.seconds.labels(route)
        requests, histogram = self._by_route[key]
        requests.inc()
        histogram.observe(seconds)

    def text(self) -> bytes:
        """Return the figures in Prometheus' format."""
        registry = self._registry
        if MULTIPROCESS_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_process(process: int, folder: Path) -> None:
    """Have the figures of a process that has ended no longer count as present."""
    for file in folder.glob(f"gauge_live*_{process}.db"):
        file.unlink(missing_ok=True)
