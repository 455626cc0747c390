"""Tokens per second of each step from a text to its vector, so that a report says which step bounds the whole."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_check.bound_sessions import Bound
from gpu_check.checkpoints import MINILM, prepare
from gpu_check.record import Record
from gpu_check.rounds import seconds_of
from gpu_check.sessions import graph_file
from gpu_check.settings import Settings
from gpu_check.workloads import MIXED, Workload, make_workloads
from monograph import Embedder
from monograph.batching import TokenBatch, deduplicate
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, open_engine
from monograph.inference.pipeline import BatchRunner
from monograph.tokenization import TextTokenizer

_THREADS = (1, 2, 4, 8, 16)
# Read by the tokenizers package's pool of threads when it starts.
_POOL = "RAYON_NUM_THREADS"
_REPEATS = 5
_COPIED_BYTES = 64 * 2**20


def measure(settings: Settings, record: Record) -> None:
    """Record the rate of each step for mixed and for short texts, and which one is the slowest."""
    _, folder = prepare(MINILM, settings, record)
    workloads = make_workloads(folder, settings.texts)
    chosen = [workloads[MIXED], next(iter(workloads.values()))]
    record.put(copies_gb_per_second=_copies(settings))
    record.put(tokenization=_tokenization(folder, chosen, settings))
    for workload in chosen:
        rates = _steps(folder, workload, settings)
        # Steps of one thread follow each other; those that could overlap are bounded by the slowest.
        serial = 1 / sum(1 / rates[name] for name in ("tokenization", "padding", "engine with copies"))
        slowest = min(("tokenization", "padding", "compute"), key=lambda name: rates[name])
        record.put(
            **{
                workload.name: {
                    "tokens_per_second": {name: round(rate) for name, rate in rates.items()},
                    "steps_one_after_another": round(serial),
                    "bound_by": slowest,
                    "share_of_the_bound_reached": round(rates["encode"] / rates[slowest], 3),
                    "mean_tokens": round(workload.tokens / len(workload.texts), 1),
                }
            }
        )


def _tokenization(folder: Path, workloads: list[Workload], settings: Settings) -> dict[str, Any]:
    """Return the rates of tokenization of each workload by threads."""
    file = settings.folder / "texts.json"
    file.write_text(json.dumps({one.name: one.texts for one in workloads}), "utf-8")
    results: dict[str, Any] = {one.name: {} for one in workloads}
    for threads in [count for count in _THREADS if count <= len(os.sched_getaffinity(0))]:
        done = subprocess.run(
            [sys.executable, "-m", "gpu_check.tokenization_rate", str(folder), str(file)],
            env=os.environ | {_POOL: str(threads), "TOKENIZERS_PARALLELISM": "true"},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = json.loads(done.stdout)
        for one in workloads:
            results[one.name][str(threads)] = {
                "texts_per_second": round(len(one.texts) / seconds[one.name]["with_arrays"]),
                "tokens_per_second": round(one.tokens / seconds[one.name]["with_arrays"]),
                "tokens_per_second_without_arrays": round(one.tokens / seconds[one.name]["alone"]),
            }
    return results


def _steps(folder: Path, workload: Workload, settings: Settings) -> dict[str, float]:
    """Return the tokens per second of each step, padding not counted as tokens."""
    bundle = open_bundle(folder)
    tokenizer = TextTokenizer(folder / "tokenizer.json")
    engine = open_engine(bundle, EngineOptions(settings.device, "auto", torch.get_num_threads(), None))
    runner = BatchRunner(engine, next(iter(bundle.manifest.tokenizers.values())), bundle.manifest.output_width, None)
    tokens = tokenizer(workload.texts)
    batches = list(runner.pad(tokens, runner.plan(tokens)))
    steps: dict[str, Callable[[], object]] = {
        "deduplication": lambda: deduplicate(workload.texts),
        "tokenization": lambda: tokenizer(workload.texts),
        "padding": lambda: list(runner.pad(tokens, runner.plan(tokens))),
        "engine with copies": lambda: [engine.run(batch.inputs) for batch in batches],
    }
    rates = {name: workload.tokens / _median(step) for name, step in steps.items()}
    engine.close()
    rates["compute"] = workload.tokens / _compute_seconds(batches, folder, settings)
    with Embedder(folder, settings.device) as model:
        rates["encode"] = workload.tokens / _median(lambda: model.encode(workload.texts))
    return rates


def _compute_seconds(batches: list[TokenBatch], folder: Path, settings: Settings) -> float:
    """Return the seconds of all batches on the device alone, each with its inputs there already."""
    bundle = open_bundle(folder)
    shapes = [batch.inputs["input_ids"].shape for batch in batches]
    bound = Bound(
        settings,
        graph_file(bundle),
        bundle.manifest.output_width,
        max(rows * length for rows, length in shapes),
        max(rows for rows, _ in shapes),
    )
    total = 0.0
    for batch in batches:
        bound.fill(batch.inputs)
        bound.compute()
        total += min(seconds_of(bound.compute) for _ in range(3))
    return total


def _copies(settings: Settings) -> dict[str, float]:
    """Return the GB/s of copies to the device and back, from memory that is pinned and that is not."""
    if not settings.on_gpu:
        return {}
    on_device = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=settings.device)

    def rate(target: torch.Tensor, source: torch.Tensor) -> float:
        def copy() -> None:
            target.copy_(source)
            torch.cuda.synchronize()

        return round(_COPIED_BYTES / _median(copy) / 1e9, 2)

    results = {}
    for name, pinned in (("pinned", True), ("pageable", False)):
        on_host = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, pin_memory=pinned)
        results[f"to device, {name}"] = rate(on_device, on_host)
        results[f"to host, {name}"] = rate(on_host, on_device)
    return results


def _median(call: Callable[[], object]) -> float:
    call()
    begin = time.monotonic()
    times = [seconds_of(call)]
    while len(times) < _REPEATS and time.monotonic() - begin < 5:
        times.append(seconds_of(call))
    return statistics.median(times)
