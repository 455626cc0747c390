"""One system under measurement, in a process and an environment of its own: python WORKER_FOLDER SYSTEM CPUS.

SYSTEM is JSON, the name of an adapter and its options; CPUS are the numbers of those that may be used, with commas.
Imports the standard library, NumPy and the system's own packages; monograph only where that is the system. Requests
come as JSON lines on standard input, answers go as JSON lines to what was standard output.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from adapters.base import Model

    Texts = dict[str, list[Any]]

_WARM_UP_CALLS = 5
# Of prctl(2).
_PR_SET_PDEATHSIG = 1


def main(system_as_json: str, cpus: str) -> None:
    """Load the system, compute a first output, then answer requests until standard input ends."""
    _end_with_parent()
    # Before anything is imported that counts CPUs.
    os.sched_setaffinity(0, map(int, cpus.split(",")))
    answers = _own_output()
    system = json.loads(system_as_json)
    # OpenVINO sends an event when it is imported, unless this package cannot be.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        adapter = importlib.import_module(f"adapters.{system['adapter']}")
        model: Model = adapter.load(**system["options"])
        model.encode([model.first_input], 1)
    except Exception as error:  # noqa: BLE001 - whatever a system raises is its result
        _send(answers, _failure(error))
        return
    _send(answers, {})
    texts: Texts = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(model, texts, request)
        except Exception as error:  # noqa: BLE001 - likewise
            answer = _failure(error)
        _send(answers, answer)


def _end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends: stopped, it would not see its input end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(model: Model, texts: Texts, request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"do": "read", "name": str(name), "file": str(file)}:
            read = json.loads(Path(file).read_text("utf-8"))
            # JSON has no tuples, which is what pairs are.
            texts[name] = [tuple(text) if isinstance(text, list) else text for text in read]
            return {"texts": len(texts[name])}
        case {"do": "encode", "name": str(name), "batch_size": batch_size, "vectors": vectors}:
            return _encode(model, texts[name], batch_size, vectors)
        case {"do": "describe"}:
            return {"described": model.describe()}
        case {"do": "padding", "name": str(name)}:
            return {"share": model.padding_share(texts[name])}
        case {"do": "calls", "name": str(name), "size": int(size), "calls": int(calls), "batch_size": batch_size}:
            return {"seconds": _time_calls(model, texts[name], size, calls, batch_size)}
    raise ValueError(f"unknown request {request}")


def _encode(model: Model, texts: list[Any], batch_size: int | None, vectors: str | None) -> dict[str, Any]:
    begin = time.perf_counter()
    results = model.encode(texts, batch_size)
    seconds = time.perf_counter() - begin
    if vectors is not None:
        import numpy as np

        np.save(vectors, model.to_array(results))
    return {"seconds": seconds}


def _time_calls(model: Model, texts: list[Any], size: int, calls: int, batch_size: int | None) -> list[float]:
    """Return the seconds of calls one after the other, each with the next ``size`` texts in batches.

    The first few are not timed: this process was stopped until now, and its caches are others'.
    """
    seconds = []
    for call in range(-_WARM_UP_CALLS, calls):
        chosen = [texts[(call * size + i) % len(texts)] for i in range(size)]
        begin = time.perf_counter()
        model.encode(chosen, batch_size)
        seconds.append(time.perf_counter() - begin)
    return seconds[_WARM_UP_CALLS:]


def _own_output() -> TextIO:
    """Return standard output for answers alone; what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return answers


def _failure(error: Exception) -> dict[str, Any]:
    lines = str(error).strip().splitlines() or ["no message"]
    # Beside it on standard error, which is shown where the process ends.
    traceback.print_exc()
    return {"failed": f"{type(error).__name__}: {lines[0]}"}


def _send(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
