"""Many cases of one kind: counts, and each failure once, with the fewest mutations that give it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from fuzzing.outcomes import HANG, TOO_SLOW, Outcome
from fuzzing.supervisor import Supervisor

# Of one signature, more are only counted.
_SAVED = 1


class Campaign:
    """Runs cases of a kind on a device and saves those that fail in a folder each."""

    def __init__(self, kind: str, device: str, seed: int, output: Path) -> None:
        self.kind, self.device, self.seed, self.output = kind, device, seed, output
        self.failures: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._slowest = Outcome(-1, "", "")
        self._cases = 0
        self._lock = threading.Lock()

    def run(self, first: int, cases: int | None, deadline: float | None, jobs: int = 1) -> dict[str, Any]:
        """Run ``cases`` from number ``first``, or until a time of ``time.monotonic``, and return a summary."""
        numbers = iter(count(first) if cases is None else range(first, first + cases))
        start = time.monotonic()
        threads = [threading.Thread(target=self._work, args=(numbers, deadline)) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "kind": self.kind,
            "cases": self._cases,
            "outcomes": dict(self._counts.most_common()),
            "distinct_failures": len(self.failures),
            "slowest": {"number": self._slowest.number, "seconds": round(self._slowest.seconds, 2)},
            "seconds": round(time.monotonic() - start, 1),
        }

    def _work(self, numbers: Any, deadline: float | None) -> None:
        with Supervisor(self.kind, self.device, self.seed) as supervisor:
            while deadline is None or time.monotonic() < deadline:
                with self._lock:
                    number = next(numbers, None)
                if number is None:
                    return
                outcome = supervisor.run(number)
                if not outcome.passed:
                    outcome = self._confirm(supervisor, outcome)
                self._note(supervisor, outcome)

    def _confirm(self, supervisor: Supervisor, outcome: Outcome) -> Outcome:
        """Run a case again where only the machine's load may be to blame."""
        if outcome.kind not in (HANG, TOO_SLOW):
            return outcome
        supervisor.restart()
        again = supervisor.run(outcome.number)
        if again.passed:
            with self._lock:
                self._counts["slow once"] += 1
        return again

    def _note(self, supervisor: Supervisor, outcome: Outcome) -> None:
        with self._lock:
            self._cases += 1
            self._counts[outcome.kind] += 1
            self._slowest = max(self._slowest, outcome, key=lambda one: one.seconds)
            if outcome.passed:
                return
            self.failures[outcome.signature] += 1
            if self.failures[outcome.signature] > _SAVED:
                return
        self._save(supervisor, outcome)

    def _save(self, supervisor: Supervisor, outcome: Outcome) -> None:
        """Leave out mutations one after another while the failure stays the same, then save the case."""
        without: list[int] = []
        for step in range(len(outcome.mutations)):
            shorter = supervisor.run(outcome.number, [*without, step])
            if shorter.signature == outcome.signature:
                without.append(step)
        folder = self.output / f"{self.kind}-{self.device}-{self.seed}-{outcome.number}"
        folder.mkdir(parents=True, exist_ok=True)
        final = supervisor.run(outcome.number, without, save=folder.absolute())
        # What crashes does so not every time, nor in the same place.
        final = final if final.signature == outcome.signature else outcome
        record = {
            **final.to_json(),
            "seed": self.seed,
            "kind_of_case": self.kind,
            "device": self.device,
            "without": without,
        }
        (folder / "case.json").write_text(json.dumps(record, indent=1))
        print(
            f"FAILED {self.kind} --seed {self.seed} --first {outcome.number} --device {self.device}: {final.kind}\n"
            f"  {'; '.join(final.mutations)}\n  {final.detail}\n  saved in {folder}",
            file=sys.stderr,
            flush=True,
        )
