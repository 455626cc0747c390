"""Measure servers side by side: where they saturate, and how long requests take below that."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from monograph import Embedder
from monograph.errors import MonographError
from monograph.progress import Progress
from monograph_bench.server.client import Connection, Target
from monograph_bench.server.load import Check, Outcome, run_closed, run_open

_T = TypeVar("_T")
_PATH = "/v1/embeddings"
# Of the saturated rate, in an open loop.
SHARES = (0.25, 0.5, 0.75, 0.9)
_SINGLE_SHARE = 0.2
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """What is measured: requests of ``texts_per_request`` texts each, ``seconds`` a run, in ``rounds``, interleaved.

    ``clients`` send one request after the other for the saturated rate. ``rates`` are the offered requests a second of
    the open loop, None for shares of each server's saturated rate. ``min_cosine`` is the least of a vector that counts
    as right, to that of the bundle.
    """

    texts: Sequence[str]
    model: str
    texts_per_request: int
    clients: int
    seconds: float
    rounds: int
    rates: Sequence[float] | None
    min_cosine: float


@dataclass(frozen=True)
class Run:
    """A run on one server: ``kind`` is "single", "closed" or "open"."""

    server: str
    kind: str
    round: int
    outcome: Outcome
    texts_per_request: int

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        outcome = self.outcome
        return {
            "server": self.server,
            "kind": self.kind,
            "round": self.round,
            "offered_requests_per_second": outcome.offered,
            "requests_per_second": outcome.rate,
            "texts_per_second": outcome.rate * self.texts_per_request,
            "p50_seconds": outcome.percentile(50),
            "p99_seconds": outcome.percentile(99),
            "statuses": {str(status): count for status, count in sorted(outcome.statuses.items())},
            "lost": outcome.lost,
            "wrong": outcome.wrong,
            "seconds": outcome.duration,
            "client_cpu_seconds": outcome.client_cpu,
        }


def measure(targets: Mapping[str, Target], plan: Plan, reference: Embedder | None, progress: Progress) -> Iterator[Run]:
    """Yield the runs on each server, those of a round interleaved.

    ``reference`` computes what vectors should be, None to check only that there are as many as texts.

    Raises:
        MonographError: a server cannot be reached, or answers the first request with an error.

    """
    bodies, check = _requests(plan, reference)
    requests = {name: [target.request(_PATH, body) for body in bodies] for name, target in targets.items()}
    for name, target in targets.items():
        _run(_check_server(name, target, requests[name][0]))
    saturated: dict[str, list[float]] = {name: [] for name in targets}
    runs = 2 + len(plan.rates or SHARES)
    with progress.step("Loading", plan.rounds * runs * len(targets), "runs") as step:
        for number in range(plan.rounds):
            kinds: tuple[str | float, ...] = ("single", "closed", *(plan.rates or SHARES))
            for kind in kinds:
                for name, target in targets.items():
                    outcome = _measure_one(kind, target, requests[name], plan, check, saturated[name], number)
                    yield Run(name, kind if isinstance(kind, str) else "open", number, outcome, plan.texts_per_request)
                    step.advance()


def _measure_one(
    kind: str | float,
    target: Target,
    requests: Sequence[bytes],
    plan: Plan,
    check: Check,
    saturated: list[float],
    number: int,
) -> Outcome:
    if kind == "single":
        return _run(run_closed(target, requests, 1, plan.seconds * _SINGLE_SHARE, check))
    if kind == "closed":
        outcome = _run(run_closed(target, requests, plan.clients, plan.seconds, check))
        saturated.append(outcome.rate)
        return outcome
    rate = float(kind) if plan.rates else float(kind) * saturated[-1]
    return _run(run_open(target, requests, max(rate, 0.1), plan.seconds, number, check))


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    try:
        # Its loop takes less time for a request; the extra `serve` has it.
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


async def _check_server(name: str, target: Target, request: bytes) -> None:
    try:
        connection = await Connection.open(target)
        answer = await connection.send(request)
    except OSError as error:
        raise MonographError(f"{name} cannot be reached ({error}): start it, or give another URL") from error
    connection.close()
    if answer.status != 200:
        text = answer.body[:300].decode(errors="replace")
        raise MonographError(f"{name} answers with status {answer.status}: {text}")


def _requests(plan: Plan, reference: Embedder | None) -> tuple[list[bytes], Check]:
    """Return the bodies of requests, and what checks the answer to one by its number."""
    size = plan.texts_per_request
    groups = [list(plan.texts[start : start + size]) for start in range(0, len(plan.texts), size)]
    groups = [group for group in groups if len(group) == size] or groups
    bodies = [
        json.dumps({"model": plan.model, "input": group, "encoding_format": "base64"}).encode() for group in groups
    ]
    expected = None if reference is None else [reference.encode(group) for group in groups]

    def check(number: int, body: bytes) -> bool:
        found = _vectors(body)
        if found is None or len(found) != len(groups[number]):
            return False
        return expected is None or _is_close(found, expected[number], plan.min_cosine)

    # Reading answers takes longer than a short text's embedding: one of many is read, unless there is a reference.
    return bodies, check if expected is not None else _every(20, check)


def _every(step: int, check: Check) -> Check:
    count = 0

    def some(number: int, body: bytes) -> bool:
        nonlocal count
        count += 1
        return check(number, body) if count % step == 1 else bool(body)

    return some


def _vectors(body: bytes) -> NDArray[np.float32] | None:
    """Return the vectors of a response in the order of their indices, None where it has none."""
    try:
        data = sorted(json.loads(body)["data"], key=lambda one: one["index"])
        if [one["index"] for one in data] != list(range(len(data))):
            return None
        return np.array([_vector(one["embedding"]) for one in data], dtype=np.float32)
    except (ValueError, KeyError, TypeError):
        return None


def _vector(embedding: str | list[float]) -> NDArray[np.float32]:
    # Not every server has base64.
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.array(embedding, dtype=np.float32)


def _is_close(found: NDArray[np.float32], expected: NDArray[np.float32], min_cosine: float) -> bool:
    if found.shape != expected.shape:
        return False
    dots = np.einsum("nd,nd->n", found, expected)
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    # Zeros have every cosine to anything.
    as_long = np.abs(lengths[0] - lengths[1]) <= (1 - min_cosine) * np.maximum(*lengths) + _ROUNDING
    return bool((as_long & (dots >= min_cosine * lengths[0] * lengths[1] - _ROUNDING)).all())
