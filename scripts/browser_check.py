"""Hold the JavaScript package in Chromium to what Python computes: run it by scripts/browser-check."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conformance.check import Outcome, find_failures
from conformance.outputs import Expected, expected_outputs
from conformance.suite import write_suite

_SCRIPTS = Path(__file__).resolve().parents[1] / "javascript" / "scripts"
# In software a long text takes seconds.
_WEBGPU_TOKENS = 64
# What of a graph may run on the CPU: shapes of the inputs, and the masks, which are int64 and become float32.
_SHAPE_OPERATORS = {"Cast", "Concat", "Shape", "Slice", "Unsqueeze"}


class Chromium:
    """The package in a page of Chromium: a reader of the conformance suite, among others."""

    def __init__(self, *, webgpu: bool = False) -> None:
        self._options = {"executionProviders": ["webgpu"]} if webgpu else {}
        command = ["node", str(_SCRIPTS / "browser-reader.mjs"), *(["--webgpu"] if webgpu else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str, bundle: Path, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Send a request of browser-reader.mjs and return its answer."""
        merged = self._options | (options or {})
        request = {"command": command, "bundle": str(bundle.resolve()), "options": merged, **fields}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = next(iter(self._process.stdout or ()), None)
        if line is None:
            raise RuntimeError("browser-reader.mjs ended without an answer: its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __call__(self, command: str, bundle: Path, content: bytes = b"") -> Outcome:
        """Run a command of the suite's protocol."""
        answer = self.ask(command, bundle, inputs=[text.decode() for text in content.split(b"\0")[:-1]])
        return Outcome(answer["code"], json.dumps(answer["output"]).encode(), answer["error"])

    def outputs(self, bundle: Path, expected: Expected) -> dict[str, Any]:
        """Return the outputs for probes, ``alone`` and ``batched``."""
        options = {"graphPrecision": expected.precision}
        answer = self.ask("outputs", bundle, options, inputs=expected.inputs, call=expected.call)
        if answer["code"]:
            raise RuntimeError(answer["error"])
        output: dict[str, Any] = answer["output"]
        return output

    def close(self) -> None:
        """End Chromium."""
        self._process.communicate()


class Node:
    """The package in Node."""

    def outputs(self, bundle: Path, expected: Expected) -> dict[str, Any]:
        """Return the outputs for probes, ``alone`` and ``batched``."""
        options = {"graphPrecision": expected.precision}
        request = json.dumps({"inputs": expected.inputs, "call": expected.call, "options": options})
        command = ["node", str(_SCRIPTS / "print-vectors.mjs"), str(bundle)]
        done = subprocess.run(command, input=request, check=True, stdout=subprocess.PIPE, text=True)
        output: dict[str, Any] = json.loads(done.stdout)
        return output


def _run_suite(chromium: Chromium) -> bool:
    """Run the conformance suite and print what fails."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite"
        write_suite(suite)
        results = list(find_failures(chromium, suite, ("folder", "multi_vector", "token_embeddings")))
    failed = [f"{name}: {failure}" for name, failure in results if failure]
    print(
        *failed, f"conformance suite in Chromium: {len(results) - len(failed)} passed, {len(failed)} failed", sep="\n"
    )
    return not failed


def _compare(bundle: Path, expected: Expected, readers: dict[str, Node | Chromium]) -> Iterator[bool]:
    """Print a line for each reader, and yield whether it is as near as it has to be."""
    for name, reader in readers.items():
        parts, failures = [], []
        for way, rows in reader.outputs(bundle, expected).items():
            difference = expected.compare(rows)
            failures.append(expected.failure(difference))
            parts.append(f"{way} {difference.max_abs:.1e}, worst cosine {difference.worst_cosine:.6f}")
        outcome = "FAILED" if any(failures) else "passed"
        what = f"{bundle.name} {expected.precision}, {name}, {len(expected.inputs)} probes"
        print(f"{what}: {outcome}, max abs difference {'; '.join(parts)}", flush=True)
        yield not any(failures)


def _check_placement(chromium: Chromium, bundle: Path, precision: str) -> bool:
    """Print which operators run where, and return whether the CPU has nothing but shapes.

    Rows of a table of int8 are looked up there, too: WebGPU's Gather takes no int8.
    """
    answer = chromium.ask("placement", bundle, {"graphPrecision": precision})
    if answer["code"]:
        print(f"{bundle.name} {precision}: {answer['error']}")
        return False
    placement: dict[str, dict[str, int]] = answer["output"]
    for provider, operators in sorted(placement.items()):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))
        print(f"{bundle.name} {precision} on {provider}: {counts}")
    on_cpu = placement.get("CPUExecutionProvider", {})
    lookups = 1 if precision == "int8-weights" else 0
    has_only_shapes = set(on_cpu) <= _SHAPE_OPERATORS | {"Gather"} and on_cpu.get("Gather", 0) <= lookups
    return "WebGpuExecutionProvider" in placement and has_only_shapes


def main() -> int:
    """Print a line for each bundle, precision and reader; return 1 if one differs."""
    parser = argparse.ArgumentParser(prog="scripts/browser-check")
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth probe of the bundles only")
    parser.add_argument(
        "--webgpu", action="store_true", help="on WebGPU, computed in software, probes of up to 64 tokens"
    )
    arguments = parser.parse_intermixed_args()
    with ExitStack() as stack:
        chromium = Chromium(webgpu=arguments.webgpu)
        stack.callback(chromium.close)
        if not arguments.bundles:
            return 0 if _run_suite(chromium) else 1
        readers = {"webgpu": chromium} if arguments.webgpu else {"node": Node(), "chromium": chromium}
        passed = []
        for bundle in arguments.bundles:
            max_tokens = _WEBGPU_TOKENS if arguments.webgpu else None
            for expected in expected_outputs(bundle, step=arguments.every, max_tokens=max_tokens):
                if arguments.webgpu and expected.precision == "int8":
                    continue
                if arguments.webgpu and not _check_placement(chromium, bundle, expected.precision):
                    passed.append(False)
                    continue
                passed += _compare(bundle, expected, readers)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
