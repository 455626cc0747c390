"""Every reader that can run here on the conformance suite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conformance.check import CommandReader, Reader, find_failures
from conformance.python_reader import read_with_python
from conformance.suite import write_suite
from conftest import MakeOnce
from support import c_reader

_JAVASCRIPT = Path(__file__).resolve().parents[2] / "javascript"


@pytest.fixture(scope="module")
def suite(make_once: MakeOnce) -> Path:
    """The suite, written once."""

    def make(folder: Path) -> Path:
        write_suite(folder)
        return folder

    return make_once("conformance", make)


def _check(reader: Reader, suite: Path, without: tuple[str, ...] = ()) -> None:
    results = dict(find_failures(reader, suite, without))
    assert len(results) > 100
    assert {name: failure for name, failure in results.items() if failure} == {}


def test_python(suite: Path) -> None:
    _check(read_with_python, suite)


def _why_not_javascript() -> str:
    if shutil.which("node") is None:
        return "Node is not installed"
    missing = [name for name in ("node_modules/onnxruntime-node", "dist/node.js") if not (_JAVASCRIPT / name).exists()]
    return f"javascript/{missing[0]} is missing: scripts/javascript-test makes it" if missing else ""


@pytest.mark.skipif(bool(_why_not_javascript()), reason=f"the JavaScript reader cannot run: {_why_not_javascript()}")
def test_javascript(suite: Path) -> None:
    _check(
        CommandReader(["node", str(_JAVASCRIPT / "scripts" / "conformance.mjs")]),
        suite,
        ("multi_vector", "token_embeddings"),
    )


@c_reader.NEEDED
@pytest.mark.parametrize("target", ["all", "sanitized"])
def test_c(suite: Path, target: str) -> None:
    reader = CommandReader([str(c_reader.build(target))], c_reader.environment())
    _check(reader, suite, ("rerank", "sparse", "routes", "multi_vector", "token_embeddings"))
