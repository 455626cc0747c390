"""The process that runs cases, as a program that uses monograph: requests and outcomes are lines of JSON."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from fuzzing.case import Case, Kind
from fuzzing.kinds import kind_named
from fuzzing.outcomes import Outcome, outcome_of
from fuzzing.watch import Audit

# What a case may take of memory; beyond it, allocations fail instead of the machine.
_MEMORY_BYTES = 4 << 30
# Cases after which the cache of compiled models is emptied.
_CACHE_CASES = 200


def main() -> None:
    """Answer requests on standard input until it ends; what anything prints goes to standard error."""
    name, device, seed, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cache = folder / "cache"
    os.environ["MONOGRAPH_CACHE"] = str(cache)
    root = folder / "root"
    root.mkdir()
    kind = kind_named(name)(root, device)
    audit = Audit(folder)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        case = kind.make(seed, request["number"], request["without"])
        if target := request["save"]:
            kind.save(case, Path(target))
        # First, for a case may end the process.
        print(json.dumps(case.mutations), file=answers, flush=True)
        print(json.dumps(_run(kind, case, audit).to_json()), file=answers, flush=True)
        if request["number"] % _CACHE_CASES == 0:
            shutil.rmtree(cache, ignore_errors=True)


def _run(kind: Kind, case: Case, audit: Audit) -> Outcome:
    audit.forget()
    start = time.perf_counter()
    detail: Any = ""
    try:
        outcome = kind.run(case)
        audit.check()
    # What is raised is what is tested, panics of native code included, which are no Exception.
    except BaseException as error:  # noqa: BLE001
        outcome, detail = outcome_of(error)
    seconds = time.perf_counter() - start
    if case.number % 500 == 0:
        gc.collect()
    return Outcome(case.number, outcome, detail, tuple(case.mutations), seconds)


if __name__ == "__main__":
    main()
