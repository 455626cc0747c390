"""Texts in bulk and single queries, of each shape, beside sentence-transformers in the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gpu_check.checkpoints import BERT_BASE, LABSE, MINILM, Shape, prepare
from gpu_check.quantities import worst_cosine
from gpu_check.record import Record
from gpu_check.rounds import interleave, rates, ratio_to_best, seconds_of
from gpu_check.settings import Settings
from gpu_check.systems import (
    MONOGRAPH,
    PEER_BATCH_SIZES,
    Encode,
    Peer,
    load_systems,
    reference_vectors,
)
from gpu_check.workloads import MIXED, Workload, make_workloads

# Texts of each workload that are compared with torch at float32, which computes them one by one.
_COMPARED = 24
# Calls of one text a round: enough for a median.
_SINGLE = 25
# Larger models take fewer texts a call.
_SHARE = {MINILM: 1, BERT_BASE: 4, LABSE: 4}


def bulk_minilm(settings: Settings, record: Record) -> None:
    """Measure MiniLM's shape in bulk."""
    _measure(MINILM, settings, record, single=False)


def single_minilm(settings: Settings, record: Record) -> None:
    """Measure MiniLM's shape on single queries."""
    checkpoint, bundle = prepare(MINILM, settings, record)
    systems = load_systems(bundle, checkpoint, settings.device, record)
    record.put(single=_single(systems, make_workloads(bundle, 512), settings, record, record.seconds_left))


def bert_base(settings: Settings, record: Record) -> None:
    """Measure BERT-base's shape, in bulk and on single queries."""
    _measure(BERT_BASE, settings, record, single=True)


def labse(settings: Settings, record: Record) -> None:
    """Measure LaBSE's shape, in bulk and on single queries."""
    _measure(LABSE, settings, record, single=True)


def compiled(settings: Settings, record: Record) -> None:
    """Measure MiniLM's shape with torch.compile, which takes minutes for its first calls, among the peers."""
    _measure(MINILM, settings, record, single=True, compiled=True)


def _measure(shape: Shape, settings: Settings, record: Record, *, single: bool, compiled: bool = False) -> None:
    checkpoint, bundle = prepare(shape, settings, record)
    workloads = make_workloads(bundle, max(16, settings.texts // _SHARE[shape]))
    systems = load_systems(bundle, checkpoint, settings.device, record, compiled=compiled)
    if single:
        record.put(single=_single(systems, workloads, settings, record, record.seconds_left / 4))
    # The mixed one is what users have.
    order = sorted(workloads, key=lambda name: name != MIXED)
    bulk: dict[str, Any] = {}
    for index, name in enumerate(order):
        workload = workloads[name]
        _warm_up(systems, workload, small=not settings.on_gpu)
        calls = {system: partial(encode, workload.texts) for system, encode in systems.items()}
        times = interleave(calls, settings.rounds, record, record.seconds_left / (len(order) - index))
        figures = rates(times, len(workload.texts), workload.tokens)
        bulk[workload.name] = {
            "texts": len(workload.texts),
            "tokens": workload.tokens,
            "systems": figures,
            "monograph_to_best_other": ratio_to_best(figures, MONOGRAPH),
            "batch_sizes": {name: one.batch_size for name, one in systems.items() if isinstance(one, Peer)},
        }
        record.put(bulk=bulk)
    compared = [text for workload in workloads.values() for text in workload.texts[:_COMPARED]]
    expected = reference_vectors(checkpoint, settings.device, compared)
    record.put(worst_cosine={name: worst_cosine(encode(compared), expected) for name, encode in systems.items()})


def _warm_up(systems: Mapping[str, Encode], workload: Workload, *, small: bool) -> None:
    """Run every system once, and each peer with each batch size, of which it takes the faster one."""
    for encode in systems.values():
        encode(workload.texts)
        if isinstance(encode, Peer) and not small:
            times = {}
            for size in PEER_BATCH_SIZES:
                encode.batch_size = size
                times[size] = seconds_of(partial(encode, workload.texts))
            encode.batch_size = min(times, key=lambda size: times[size])


def _single(
    systems: Mapping[str, Encode], workloads: Mapping[str, Workload], settings: Settings, record: Record, seconds: float
) -> dict[str, Any]:
    """Return the median and the 95th percentile of calls of one text, of about 16 and of 128 tokens."""
    results: dict[str, Any] = {}
    names = [name for name in workloads if name != MIXED][:2]
    calls_a_round = _SINGLE if settings.on_gpu else 3
    for name in names:
        texts = workloads[name].texts
        samples: dict[str, list[float]] = {system: [] for system in systems}

        def calls_of(system: str, texts: list[str], samples: dict[str, list[float]]) -> None:
            for _ in range(calls_a_round):
                text = texts[len(samples[system]) % len(texts)]
                samples[system].append(seconds_of(partial(systems[system], [text])))

        calls: dict[str, Callable[[], object]] = {one: partial(calls_of, one, texts, samples) for one in systems}
        for call in calls.values():
            call()
        for values in samples.values():
            values.clear()
        interleave(calls, 4 * settings.rounds, record, seconds / len(names))
        results[workloads[name].name] = {
            system: {
                "p50_ms": round(statistics.median(values) * 1e3, 3),
                "p95_ms": round(statistics.quantiles(values, n=20)[-1] * 1e3, 3),
                "calls": len(values),
            }
            for system, values in samples.items()
        }
        medians = {system: one["p50_ms"] for system, one in results[workloads[name].name].items()}
        best_other = min((value for system, value in medians.items() if system != MONOGRAPH), default=None)
        results[workloads[name].name]["monograph_to_best_other"] = (
            None if best_other is None else round(medians[MONOGRAPH] / best_other, 3)
        )
    return results
