"""The program of docs/how-to/c.md, the memory that the page promises, and errors of the public functions."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from monograph import Embedder
from support import c_reader
from support.manifests import state_file
from support.pages import DOCS, blocks

pytestmark = c_reader.NEEDED
_BUNDLE = Path(__file__).resolve().parents[1] / "data" / "embedding"


def test_page(tmp_path: Path) -> None:
    (program,) = blocks(DOCS / "how-to" / "c.md", "c")
    (tmp_path / "program.c").write_text(program, encoding="utf-8")
    c_reader.build("all")
    library = c_reader.SOURCE / "build" / "libmonograph.a"
    compile_ = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{c_reader.SOURCE}", "program.c", str(library)]
    subprocess.run([*compile_, "-lm", "-ldl", "-pthread", "-o", "program"], check=True, cwd=tmp_path)
    command = [str(tmp_path / "program"), str(_BUNDLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=c_reader.environment())
    with Embedder(_BUNDLE, device="cpu") as model:
        first, second = model.encode(["The harbour is quiet at night.", "Boats lie at the quay."])
    assert done.stdout == f"{float(np.dot(first, second)):.2f}\n"


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        (["--prompt", "nobody"], b"text\n", "prompt_name 'nobody' is not a prompt of this model"),
        ([], b"\xff\n", "text 0 is not UTF-8"),
    ],
)
def test_errors_of_inputs(options: list[str], content: bytes, message: str) -> None:
    done = c_reader.run("embed", _BUNDLE, content, options)
    assert done.returncode == 1
    assert done.stderr.decode() == f"monograph-c: {message}\n"


def test_prompts() -> None:
    texts = ["a harbour", "ships"]
    done = c_reader.run("embed", _BUNDLE, "\n".join(texts).encode(), ["--prompt", "query"])
    found = np.array([line.strip("[]").split(", ") for line in done.stdout.decode().splitlines()], dtype=np.float32)
    with Embedder(_BUNDLE, device="cpu") as model:
        assert np.abs(found - model.encode(texts, prompt_name="query")).max() <= 1e-6


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_reader, "library", lambda: "/nowhere/libonnxruntime.so")
    done = c_reader.run("verify", _BUNDLE)
    assert done.returncode == 1
    assert "set MONOGRAPH_ONNXRUNTIME to its library" in done.stderr.decode()


def test_usage() -> None:
    done = subprocess.run([str(c_reader.build("all")), "divine", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: monograph-c verify BUNDLE")


def _verify_with_64_mib(bundle: Path) -> None:
    command = ["prlimit", f"--data={64 * 2**20}", str(c_reader.build("all")), "verify", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=c_reader.environment())
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_memory() -> None:
    # Most of it is ONNX Runtime's own; docs/how-to/c.md says how to measure a real model.
    _verify_with_64_mib(_BUNDLE.with_name("embedding-int8"))


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_table_is_not_copied(tmp_path: Path) -> None:
    # ONNX Runtime has one copy of the table while it loads the graph; a second does not fit.
    bundle = tmp_path / "bundle"
    shutil.copytree(_BUNDLE, bundle)
    graph = onnx.load(bundle / "model.onnx", load_external_data=False)
    (table,) = (one for one in graph.graph.initializer if one.name.endswith("word_embeddings.weight"))
    place = {entry.key: entry for entry in table.external_data}
    weights = (bundle / "model.onnx.data").read_bytes()
    rows = weights[int(place["offset"].value) :][: int(place["length"].value)]
    offset, size = -(-len(weights) // 4096) * 4096, 40 * 2**20 // len(rows) * len(rows)
    table.dims[0] *= size // len(rows)
    place["offset"].value, place["length"].value = str(offset), str(size)
    (bundle / "model.onnx.data").write_bytes(weights.ljust(offset, b"\0") + rows.ljust(size, b"\0"))
    (bundle / "model.onnx").write_bytes(graph.SerializeToString())
    for name in ("model.onnx", "model.onnx.data"):
        state_file(bundle, name, hashlib.sha256((bundle / name).read_bytes()).hexdigest())
    _verify_with_64_mib(bundle)
