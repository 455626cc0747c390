"""One system under measurement, in a process and an environment of its own: python WORKER_FOLDER SYSTEM CPUS.

SYSTEM is JSON, the name of an adapter and its options; CPUS are the numbers of those that may be used, with commas.
Imports the standard library, NumPy and the system's own packages; monograph only where that is the system. Requests
come as JSON lines on standard input, answers go as JSON lines to what was standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from adapters.contract import Model

FIRST_TEXT = "a first text"


def main(system_as_json: str, cpus: str) -> None:
    """Load the system, embed a first text, then answer requests until standard input ends."""
    # Before anything is imported that counts CPUs.
    os.sched_setaffinity(0, map(int, cpus.split(",")))
    answers = _own_output()
    system = json.loads(system_as_json)
    try:
        adapter = importlib.import_module(f"adapters.{system['adapter']}")
        model: Model = adapter.load(**system["options"])
        first = model.encode([FIRST_TEXT], 1)
        ready = {"dimension": int(first.shape[1]), "described": model.described()}
    except Exception as error:  # noqa: BLE001 - whatever a system raises is its result
        _tell(answers, _failure(error))
        return
    _tell(answers, ready)
    texts: dict[str, list[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(model, texts, request)
        except Exception as error:  # noqa: BLE001 - likewise
            answer = _failure(error)
        _tell(answers, answer)


def _answer(model: Model, texts: dict[str, list[str]], request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"do": "read", "name": str(name), "file": str(file)}:
            texts[name] = json.loads(Path(file).read_text("utf-8"))
            return {"texts": len(texts[name])}
        case {"do": "encode", "name": str(name), "batch_size": batch_size, "vectors": vectors}:
            return _encoded(model, texts[name], batch_size, vectors)
        case {"do": "padding", "name": str(name)}:
            return {"share": model.padding_share(texts[name])}
        case {"do": "calls", "name": str(name), "size": int(size), "calls": int(calls)}:
            return {"seconds": _called(model, texts[name], size, calls)}
    raise ValueError(f"unknown request {request}")


def _encoded(model: Model, texts: list[str], batch_size: int | None, vectors: str | None) -> dict[str, Any]:
    begin = time.perf_counter()
    found = model.encode(texts, batch_size)
    seconds = time.perf_counter() - begin
    if vectors is not None:
        import numpy as np

        np.save(vectors, np.asarray(found, dtype=np.float32))
    return {"seconds": seconds}


def _called(model: Model, texts: list[str], size: int, calls: int) -> list[float]:
    """Return the seconds of calls one after the other, each with the next ``size`` texts."""
    seconds = []
    for call in range(calls):
        chosen = [texts[(call * size + i) % len(texts)] for i in range(size)]
        begin = time.perf_counter()
        model.encode(chosen, size)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _own_output() -> TextIO:
    """Return standard output for answers alone; what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return answers


def _failure(error: Exception) -> dict[str, Any]:
    lines = str(error).strip().splitlines() or ["no message"]
    return {"failed": f"{type(error).__name__}: {lines[0]}", "traceback": traceback.format_exc()}


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
