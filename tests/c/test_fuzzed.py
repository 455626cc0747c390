"""Mutated bundles in the C reader, built with sanitizers: it must refuse or read them.

Most stop before ONNX Runtime, whose library is not there for them: all of the reader's own parsing is done by then.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzing.byte_mutations import mutate_bytes
from fuzzing.graph_mutations import mutate_graph
from fuzzing.json_mutations import mutate_json, to_bytes
from fuzzing.protobuf import parse
from support import c_reader
from support.manifests import state_file

pytestmark = c_reader.NEEDED
_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "embedding"
# MONOGRAPH_C_FUZZ=100 runs a hundred times as many.
_TIMES = int(os.environ.get("MONOGRAPH_C_FUZZ", "1"))
_SEED = int(os.environ.get("MONOGRAPH_C_FUZZ_SEED", "7"))
_TEXTS = b"A harbour at dawn.\0\xe4\xbd\xa0\xe5\xa5\xbd [MASK] caf\xc3\xa9\0\0"
Mutation = Callable[[bytes, random.Random, Path], bytes]


def _bytes(content: bytes, chooser: random.Random, _: Path) -> bytes:
    return mutate_bytes(content, chooser)[0]


def _json(content: bytes, chooser: random.Random, _: Path) -> bytes:
    tree = json.loads(content)
    for _times in range(chooser.choice((1, 1, 1, 3))):
        tree, _what = mutate_json(tree, chooser)
    return to_bytes(tree, chooser)


def _graph(content: bytes, chooser: random.Random, folder: Path) -> bytes:
    message = parse(content)
    mutate_graph(message, chooser, folder / "outside.bin")
    return message.to_bytes()


_CASES: dict[str, tuple[str, Mutation, int, bool]] = {
    "manifest": ("manifest.json", _json, 60, False),
    "manifest-bytes": ("manifest.json", _bytes, 30, False),
    "tokenizer": ("tokenizer.json", _json, 60, False),
    "tokenizer-bytes": ("tokenizer.json", _bytes, 20, False),
    "graph": ("model.onnx", _graph, 60, False),
    "graph-bytes": ("model.onnx", _bytes, 40, False),
    "tokenizer-used": ("tokenizer.json", _json, 12, True),
    "probes-used": ("probes.json", _json, 8, True),
    "probes-bytes-used": ("probes.json", _bytes, 8, True),
}


@pytest.mark.parametrize("case", _CASES)
def test_mutated_files(case: str, tmp_path: Path) -> None:
    name, mutate, count, uses_runtime = _CASES[case]
    original = (_BUNDLE / name).read_bytes()
    for number in range(count * _TIMES):
        chooser = random.Random(f"{_SEED} {case} {number}")  # noqa: S311
        bundle = tmp_path / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(_BUNDLE, bundle)
        (bundle / name).write_bytes(mutate(original, chooser, tmp_path))
        if name != "manifest.json":
            state_file(bundle, name, hashlib.sha256((bundle / name).read_bytes()).hexdigest())
        command = "verify" if name == "probes.json" else "conformance"
        _check(command, bundle, uses_runtime, f"{case} {number}")


def _check(command: str, bundle: Path, uses_runtime: bool, what: str) -> None:
    environment = c_reader.environment()
    if not uses_runtime:
        environment |= {"MONOGRAPH_ONNXRUNTIME": "/nowhere/libonnxruntime.so", "ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run(
        [str(c_reader.build("sanitized")), command, str(bundle)],
        input=_TEXTS,
        capture_output=True,
        check=False,
        timeout=300,
        env=environment,
    )
    error = done.stderr.decode(errors="replace")
    assert done.returncode in (0, 1), f"{what}: exit code {done.returncode}\n{error}"
    assert "Sanitizer" not in error, f"{what}: {error}"
    assert "runtime error" not in error, f"{what}: {error}"
    assert done.returncode == 0 or done.stdout or error.startswith("monograph-c: "), what
    assert error.count("\n") <= 1, what
