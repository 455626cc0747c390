"""Whether the vectors are right on the device, where each operator runs, and which ones take the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.checkpoints import MINILM, prepare
from gpu_check.record import Record
from gpu_check.sessions import graph_file, open_plain, provider_of, random_batch
from gpu_check.settings import Settings
from monograph.bundle import Bundle, open_bundle
from monograph.engines.cuda import count_operators_elsewhere, find_cpu_fallback

# Which kernel of attention was chosen is printed for every call, into the stage's log.
_PRINTS_KERNEL = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"
_SHAPES = ((1, 16), (32, 128), (8, 512))
_PROFILED = ((1, 16), (256, 128), (64, 512))


class WrongError(Exception):
    """The device computes something else, or elsewhere."""


def verify(settings: Settings, record: Record) -> None:
    """Run the acceptance test that the bundle carries on the device."""
    _, bundle = prepare(MINILM, settings, record)
    command = [sys.executable, "-m", "monograph", "verify", str(bundle), "--device", settings.device, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    record.put(exit_code=done.returncode, output=_as_json(done.stdout), error=done.stderr)
    if done.returncode:
        raise WrongError(f"verify failed on {settings.device}: {done.stderr.strip() or done.stdout.strip()}")


def assign(settings: Settings, record: Record) -> None:
    """Record which provider runs each operator of the graph, and which kernel attention takes for some shapes."""
    _, bundle = prepare(MINILM, settings, record)
    os.environ[_PRINTS_KERNEL] = "1"
    opened = open_bundle(bundle)
    session = open_plain(settings, graph_file(opened), assignment=True)
    placed: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    provider = provider_of(settings)
    record.put(
        operators={name: dict(counts.most_common()) for name, counts in placed.items()},
        elsewhere=count_operators_elsewhere(session, provider),
        providers=session.get_providers(),
        attention_kernels=f"printed into {record_log(settings)} for each shape",
    )
    dimension = {}
    for rows, length in _shapes_up_to(_longest(opened), _SHAPES):
        print(f"attention of {rows} texts of {length} tokens:", flush=True)
        output = session.run(None, random_batch(session, rows, length, 0))[0]
        dimension[f"{rows}x{length}"] = list(output.shape)
    record.put(outputs=dimension)
    if settings.on_gpu and (problem := find_cpu_fallback(session)):
        raise WrongError(problem)


def record_log(settings: Settings) -> str:
    return str(Path(settings.output) / "assignment.log")


def profile(settings: Settings, record: Record) -> None:
    """Record the time of each kind of operator, by ONNX Runtime's own profile, for a few shapes of batches."""
    _, bundle = prepare(MINILM, settings, record)
    opened = open_bundle(bundle)
    file = graph_file(opened)
    results = {}
    for rows, length in _shapes_up_to(_longest(opened), _PROFILED if settings.on_gpu else _SHAPES[:1]):
        with tempfile.TemporaryDirectory() as folder:
            session = open_plain(settings, file, profile=Path(folder) / "profile")
            for index in range(12):
                session.run(None, random_batch(session, rows, length, index))
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        results[f"{rows}x{length}"] = _by_operator(events)
        record.put(microseconds_of_a_run=results)


def _longest(bundle: Bundle) -> int:
    """Return the tokens of the longest text that a model takes."""
    return next(iter(bundle.manifest.tokenizers.values())).max_length or max(length for _, length in _SHAPES)


def _shapes_up_to(longest: int, shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(rows, min(length, longest)) for rows, length in shapes]


def _by_operator(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean microseconds of a run by kind of event and operator, without the first runs."""
    runs = [event["ts"] for event in events if event.get("name") == "model_run"]
    begin = sorted(runs)[len(runs) // 3]
    count = sum(start >= begin for start in runs)
    sums: Counter[str] = Counter()
    for event in events:
        if event.get("ts", 0) < begin or event.get("cat") not in ("Node", "Kernel"):
            continue
        kind = event["args"].get("op_name", event["name"]) if event["cat"] == "Node" else event["name"]
        sums[f"{event['cat']} {kind}"] += event["dur"]
    whole = [event["dur"] for event in events if event.get("name") == "model_run" and event["ts"] >= begin]
    return {"run": float(np.mean(whole)), **{name: round(value / count, 1) for name, value in sums.most_common(25)}}


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
