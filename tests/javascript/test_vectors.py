"""The JavaScript package computes what Python does with ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.outputs import expected_outputs

_BUNDLES = Path(__file__).parents[1] / "data"


_NOT_READ = {
    "multi-vector": "is not one of embedding, rerank, sparse",
    "embedding-tokens": "must name one output",
    "embedding-hybrid": "must name one output",
}


@pytest.mark.parametrize("name", sorted({folder.name for folder in _BUNDLES.iterdir()} - _NOT_READ.keys()))
def test_outputs_are_those_of_python(name: str, package: Path) -> None:
    for expected in expected_outputs(_BUNDLES / name):
        options = {"graphPrecision": expected.precision}
        request = json.dumps({"inputs": expected.inputs, "call": expected.call, "options": options})
        command = ["node", str(package / "scripts" / "print-vectors.mjs"), str(_BUNDLES / name)]
        output = subprocess.run(command, input=request, check=True, stdout=subprocess.PIPE, text=True).stdout
        outputs = json.loads(output)
        assert set(outputs) == {"alone", "batched"}
        assert [expected.failure(expected.compare(rows)) for rows in outputs.values()] == ["", ""]


@pytest.mark.parametrize(("name", "message"), _NOT_READ.items())
def test_bundles_with_vectors_of_tokens_are_refused(name: str, message: str, package: Path) -> None:
    command = ["node", str(package / "bin" / "monograph-runtime.js"), "verify", str(_BUNDLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


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
