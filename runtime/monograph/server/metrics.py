"""What a server counts, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from monograph.server.engine_queue import Batch

# Of prometheus-client: where the processes of a server write what they count. It reads it at its import.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "monograph_"
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
        by_route, by_model = ("route",), ("model",)
        self.requests = self._counter("requests", "Requests that were answered.", ("route", "status"))
        self.seconds = self._histogram(
            "request_seconds", "Seconds from the headers of a request to its response.", by_route, _SECONDS
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests that are being received or computed.")
        self._texts = self._counter("texts", "Texts or pairs that were computed.", by_model)
        self._tokens = self._counter("tokens", "Tokens of these texts.", by_model)
        self._queued = self._gauge("queued_tokens", "Tokens that wait or are being computed.", by_model)
        self._waited = self._histogram("wait_seconds", "Seconds before a request's first batch.", by_model, _SECONDS)
        self._computed = self._histogram(
            "compute_seconds", "Seconds from a request's first batch to the end of its last.", by_model, _SECONDS
        )
        self._rows = self._histogram("batch_rows", "Texts or pairs of a batch.", by_model, _ROWS)
        self._batch_tokens = self._counter("batch_tokens", "Tokens of the batches, without padding.", by_model)
        self._engine = self._counter("engine_seconds", "Seconds in which the engine computed.", by_model)
        self._by_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        # Of several workers the sum.
        return Gauge(_PREFIX + name, text, labels, registry=self._registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=buckets, registry=self._registry)

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
