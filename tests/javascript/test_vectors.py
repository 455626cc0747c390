"""The JavaScript package computes what Python does with ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import SparseEncoder, load
from monograph.bundle.probes import read_probes

_BUNDLES = Path(__file__).parents[1] / "data"
_FLOAT32 = ["embedding", "embedding-int8-weights", "embedding-precisions", "rerank", "sparse", "sparse-routes"]


def _dense(rows: Any, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors, float32 [n, width], from lists of values, or of columns and values."""
    result = np.zeros((len(rows), width), dtype=np.float32)
    for row, values in zip(result, rows, strict=True):
        if len(values) == 2 and isinstance(values[0], list):
            row[values[0]] = values[1]
        else:
            row[:] = values
    return result


def _compute(package: Path, bundle: Path) -> tuple[Any, Any, Any]:
    """Return what Python computes of a bundle's probes, and what JavaScript does, batched and alone."""
    with load(bundle, device="cpu", threads=1) as model:
        inputs = list(read_probes(bundle)[0].texts)
        command = ["node", str(package / "scripts" / "print-vectors.mjs"), str(bundle)]
        output = subprocess.run(command, input=json.dumps(inputs), check=True, stdout=subprocess.PIPE, text=True).stdout
        if isinstance(model, SparseEncoder):
            vectors = [[one.indices.tolist(), one.values.tolist()] for one in _encode_documents(model, inputs)]
            expected = _dense(vectors, model.dimension)
        elif hasattr(model, "predict"):
            expected = model.predict(inputs, activation_fn="Identity").reshape(len(inputs), -1)
        else:
            expected = model.encode(inputs)
    computed = json.loads(output)
    batched, alone = (_dense(computed[way], expected.shape[1]) for way in ("batched", "alone"))
    return expected, batched, alone


def _encode_documents(model: SparseEncoder, inputs: list[Any]) -> list[Any]:
    task = None if model.manifest.routing is None else "document"
    return model.encode_active(inputs, task=task)


@pytest.mark.parametrize("name", _FLOAT32)
def test_float32_is_equal(name: str, package: Path) -> None:
    expected, *computed = _compute(package, _BUNDLES / name)
    for vectors in computed:
        assert np.abs(vectors - expected).max() <= 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", ["embedding-int8", "embedding-int8-measured"])
def test_int8_is_close(name: str, package: Path) -> None:
    expected, *computed = _compute(package, _BUNDLES / name)
    for vectors in computed:
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
        assert (np.sum(vectors * expected, axis=1) / norms).min() >= 0.998


@pytest.mark.parametrize("name", ["embedding", "rerank", "sparse-routes"])
def test_command_verifies(name: str, package: Path, tmp_path: Path) -> None:
    command = ["node", str(package / "bin" / "monograph-runtime.js"), "verify", "--threads", "1"]
    done = subprocess.run([*command, str(_BUNDLES / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "alone, unpadded" in done.stdout
    assert "passed: " in done.stdout

    absent = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "this is not a bundle" in absent.stderr


def test_command_fails_on_wrong_probes(package: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(_BUNDLES / "embedding", bundle)
    probes = json.loads((bundle / "probes.json").read_text(encoding="utf-8"))
    probes["texts"][0] += " and more"
    content = json.dumps(probes).encode()
    (bundle / "probes.json").write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["probes.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    command = ["node", str(package / "bin" / "monograph-runtime.js"), "verify", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED: probe 0 has" in done.stdout
