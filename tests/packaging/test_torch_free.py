"""The runtime embeds where torch and transformers cannot be imported, and its install brings neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FORBIDDEN = ("torch", "transformers", "sentence_transformers", "monograph_export", "huggingface_hub", "onnx", "scipy")
LIMIT_BYTES = 250_000_000

EMBED = """
import json, sys
from monograph import Embedder
with Embedder(sys.argv[1], device=sys.argv[2]) as model:
    vector = model.encode("a boat in the harbour")
    matrix = model.similarity(vector, model.encode(["a ship", "bread"]))
    print(json.dumps([vector.shape, matrix.shape, sorted(set(sys.modules) & set(sys.argv[3:]))]))
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that raise when they are imported, guarded or not: AssertionError is not ImportError."""
    folder = tmp_path_factory.mktemp("stubs")
    for name in FORBIDDEN:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise AssertionError(__name__ + ' was imported')\n")
    return folder


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
def test_runtime_embeds_without_torch(stubs: Path, minilm_bundle: Path, device: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EMBED, minilm_bundle, device, *FORBIDDEN],
        env=os.environ | {"PYTHONPATH": str(stubs)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [[384], [1, 2], []]


@pytest.mark.parametrize("command", ["embed", "similarity", "info", "verify", "pack"])
def test_commands_run_without_torch(command: str, stubs: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    extra = {"similarity": ["a", "b"], "pack": [str(tmp_path / "bundle.tar")]}.get(command, [])
    done = subprocess.run(
        [sys.executable, "-m", "monograph", command, tiny_bundle, *extra], input=b"",
        env=os.environ | {"PYTHONPATH": str(stubs)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


def test_the_environment_of_the_runtime_s_tests_has_no_torch() -> None:
    """`scripts/test` runs tests/runtime in it, so that what passes there needs none of these."""
    subprocess.run([PROJECT / "scripts" / "environment", "runtime"], check=True)
    code = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    absent = ("torch", "transformers", "sentence_transformers", "safetensors", "onnx", "onnx_ir", "sklearn", "psutil")
    python = PROJECT / ".venv-runtime" / "bin" / "python"
    done = subprocess.run([python, "-c", code, *absent], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.timeout(900)  # pip may download
@pytest.mark.slow
def test_clean_install_is_small_and_has_neither_torch_nor_transformers(tmp_path: Path, minilm_bundle: Path) -> None:
    """`pip install ".[onnx]"` of a built wheel in a new environment, and the real model in it."""
    before = folder_size(tmp_path / "env", create=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{PROJECT}[onnx]"], check=True)
    listing = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    installed = {package["name"].lower() for package in json.loads(listing)}
    assert "onnxruntime" in installed
    assert not installed & {"torch", "transformers", "sentence-transformers", "onnx", "scipy"}
    assert folder_size(tmp_path / "env") - before < LIMIT_BYTES
    done = subprocess.run(
        [python, "-c", EMBED, minilm_bundle, "auto", *FORBIDDEN], cwd=tmp_path, capture_output=True, check=False
    )
    assert json.loads(done.stdout) == [[384], [1, 2], []], done.stderr.decode()
    refused = subprocess.run([python, "-m", "monograph", "export", "x", "y"], capture_output=True, check=False)
    assert refused.returncode == 1
    assert b"pip install 'monograph[export,onnx]'" in refused.stderr


def folder_size(folder: Path, create: bool = False) -> int:
    if create:
        venv.create(folder, with_pip=True)
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
