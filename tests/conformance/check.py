"""Run a reader on the suite and compare."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MAX_DIFFERENCE = 1e-6
MIN_COSINE = 0.998
_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """How a reader's command ended."""

    code: int
    output: bytes
    error: str


class Reader(Protocol):
    """A reader of bundles: its commands ``conformance`` and ``verify``."""

    def __call__(self, command: str, bundle: Path, content: bytes = b"") -> Outcome:
        """Run a command on a bundle with ``content`` on its standard input."""


@dataclass(frozen=True)
class CommandReader:
    """A reader that is a program; README.md specifies its commands."""

    words: Sequence[str]
    environment: dict[str, str] | None = None
    seconds: int = _SECONDS

    def __call__(self, command: str, bundle: Path, content: bytes = b"") -> Outcome:
        try:
            done = subprocess.run(
                [*self.words, command, str(bundle)],
                input=content,
                capture_output=True,
                check=False,
                timeout=self.seconds,
                env=self.environment,
            )
        except subprocess.TimeoutExpired:
            return Outcome(-1, b"", f"it took more than {self.seconds} seconds")
        return Outcome(done.returncode, done.stdout, done.stderr.decode(errors="replace").strip())


def find_failures(reader: Reader, suite: Path, without: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield each case of the suite with what is wrong, "" for nothing; ``without`` are features the reader lacks."""
    content = json.loads((suite / "suite.json").read_bytes())
    for name, entry in content["bundles"].items():
        bundle = suite / "bundles" / name
        if set(entry["features"]) & set(without):
            yield f"unsupported/{name}", _failure_to_refuse(reader("verify", bundle))
            continue
        outcome = reader("verify", bundle)
        yield f"verify/{name}", "" if outcome.code == 0 else _describe(outcome)
        expected = suite / "expected" / f"{name}.json"
        if expected.exists():
            yield f"conformance/{name}", compare(reader, bundle, json.loads(expected.read_bytes())).failure
    for name, entry in content["hostile"].items():
        # What is wrong is in a part that such a reader does not read.
        if set(entry["features"]) & set(without):
            continue
        yield f"hostile/{name}", _failure_to_refuse(reader("verify", suite / "hostile" / name))


def _describe(outcome: Outcome) -> str:
    return f"exit code {outcome.code}: {outcome.error or outcome.output.decode(errors='replace').strip()}"[:500]


def _failure_to_refuse(outcome: Outcome) -> str:
    if outcome.code == 0:
        return "it was accepted"
    return "" if outcome.code == 1 and (outcome.error or outcome.output) else _describe(outcome)


@dataclass(frozen=True)
class Comparison:
    """How far a reader is from what is expected of a bundle: the worst of all texts, alone and batched."""

    failure: str
    max_abs_difference: float = 0.0
    worst_cosine: float = 1.0


def compare(reader: Reader, bundle: Path, expected: dict[str, Any]) -> Comparison:
    """Run ``conformance`` on a bundle and compare ids and vectors."""
    texts = expected["texts"]
    outcome = reader("conformance", bundle, b"".join(text.encode() + b"\0" for text in texts))
    if outcome.code:
        return Comparison(_describe(outcome))
    found = json.loads(outcome.output)
    for text, ids, wanted in zip(texts, found["ids"], expected["ids"], strict=True):
        if ids != wanted:
            return Comparison(f"the text {text!r} has the ids {ids} instead of {wanted}")
    reference = np.array(expected["vectors"], dtype=np.float32)
    differences, cosines = [], []
    for key in ("alone", "batched"):
        vectors = np.array(found[key], dtype=np.float32)
        if vectors.shape != reference.shape:
            return Comparison(f"{key}: vectors of the shape {vectors.shape} instead of {reference.shape}")
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
        cosines.append(float((np.sum(vectors * reference, axis=1) / np.maximum(norms, 1e-30)).min()))
        differences.append(float(np.abs(vectors - reference).max()))
    # NaN is neither larger nor smaller.
    difference, cosine = float(np.max(differences)), float(np.min(cosines))
    failure = ""
    if expected["precision"] == "fp32" and not difference <= MAX_DIFFERENCE:
        failure = f"max abs difference {difference:.2e}"
    elif not cosine >= MIN_COSINE:
        failure = f"worst cosine {cosine:.6f}"
    return Comparison(failure, difference, cosine)
