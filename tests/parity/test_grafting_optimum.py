"""Real files of optimum, grafted where there is no torch, beside the traced bundle and sentence-transformers' backend.

They need the environment that `monograph bench --setup-peers optimum` makes, and skip where it is not there.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.bundle import open_bundle
from monograph_bench.peers import PeerError, environment_of, environments
from monograph_export import export
from monograph_export.probe_texts import probe_sentences

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
# Where the user's own environments are; the tests' cache is another one, and empty.
HOME = environments.default_home()
TEXTS = [*probe_sentences()[:48], "", "Word " * 300]
QUANTIZED = ("avx2", "avx512_vnni")
# In optimum's environment: the checkpoint's encoder as a user would export it, for the Hub and for quantisation.
MAKE = """
import sys
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
checkpoint, output, *targets = sys.argv[1:]
options = {"do_validation": False}
main_export(checkpoint, output, task="feature-extraction", library_name="transformers", **options)
main_export(checkpoint, output + "/st", task="sentence-similarity", library_name="sentence_transformers", **options)
for target in targets:
    quantizer = ORTQuantizer.from_pretrained(output, file_name="model.onnx")
    config = getattr(AutoQuantizationConfig, target)(is_static=False)
    quantizer.quantize(save_dir=output, quantization_config=config, file_suffix=target)
"""
# There, too: what sentence-transformers makes of such a file, as it is and without ONNX Runtime's optimisations.
EMBED = """
import json, sys
import numpy as np, onnxruntime
from sentence_transformers import SentenceTransformer
checkpoint, file, output = sys.argv[1:]
texts = json.load(sys.stdin)
plain = onnxruntime.SessionOptions()
plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
found = {}
for name, options in {"optimised": {}, "plain": {"session_options": plain}}.items():
    model = SentenceTransformer(
        checkpoint, backend="onnx", device="cpu", local_files_only=True,
        model_kwargs={"file_name": file, "provider": "CPUExecutionProvider", **options},
    )
    found[name] = model.encode(texts, batch_size=1)
np.savez(output, **found)
"""


@pytest.fixture(scope="module")
def optimum() -> Path:
    """The interpreter of optimum's environment."""
    try:
        return environment_of("optimum", HOME)
    except PeerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def checkpoint(optimum: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's settings, without its weights, and optimum's files where the Hub has them."""
    folder = tmp_path_factory.mktemp("minilm-onnx")
    for file in (path for path in minilm.rglob("*.json") if path.is_file()):
        (folder / file.relative_to(minilm)).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.relative_to(minilm)).write_bytes(file.read_bytes())
    run(optimum, "-c", MAKE, minilm, folder / "onnx", *QUANTIZED)
    return folder


def run(*command: object, given: str = "") -> str:
    done = subprocess.run([str(word) for word in command], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def embedded(bundle: Path) -> NDArray[np.float32]:
    with Embedder(bundle, device="cpu") as model:
        return model.encode(TEXTS)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("nd,nd->n", a, b, dtype=np.float64) / norms)


@pytest.fixture(scope="module")
def python_without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the extra that grafting needs, and nothing else."""
    folder = tmp_path_factory.mktemp("graft-environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{PROJECT}[graft,onnx]")
    installed = {package["name"].lower() for package in json.loads(run(python, "-m", "pip", "list", "--format=json"))}
    assert not installed & {"torch", "transformers", "sentence-transformers", "onnxscript", "scipy"}
    return python


@pytest.mark.parametrize("file", ["onnx/model.onnx", "onnx/st/model.onnx"])
def test_a_graft_made_without_torch_equals_the_traced_bundle(
    file: str, checkpoint: Path, python_without_torch: Path, minilm_bundle: Path, tmp_path: Path
) -> None:
    said = run(
        python_without_torch, "-P", "-m", "monograph", "export", checkpoint, tmp_path / "bundle", "--from-onnx", file,
        "--recipe", "all-MiniLM-L6-v2",
    )  # fmt: skip
    print(f"\n{said}")
    difference = np.abs(embedded(tmp_path / "bundle") - embedded(minilm_bundle)).max()
    print(f"max abs difference to the traced bundle {difference:.1e}")
    assert difference <= 1e-5
    assert open_bundle(tmp_path / "bundle").manifest.tokenizer == open_bundle(minilm_bundle).manifest.tokenizer


@pytest.mark.parametrize("target", QUANTIZED)
def test_an_int8_graft_equals_sentence_transformers_backend(
    target: str, checkpoint: Path, optimum: Path, tmp_path: Path
) -> None:
    """To the last digits where ONNX Runtime runs operator by operator, else but for values that round otherwise."""
    file = f"onnx/model_{target}.onnx"
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=file)
    run(optimum, "-c", EMBED, checkpoint, file, tmp_path / "vectors.npz", given=json.dumps(TEXTS))
    expected = np.load(tmp_path / "vectors.npz")
    plain = np.abs(_run_plainly(bundle.path) - expected["plain"]).max()
    found = embedded(bundle.path)
    near = {name: cosines(found, expected[name]) for name in ("plain", "optimised")}
    told = ", ".join(f"{name} worst {c.min():.6f} median {np.median(c):.8f}" for name, c in near.items())
    print(f"\n{target}: {bundle.size_bytes / 1e6:.1f} MB, plain difference {plain:.1e}; cosines of the runtime: {told}")
    assert plain <= 1e-5
    assert min(c.min() for c in near.values()) >= 0.98
    assert min(np.median(c) for c in near.values()) >= 0.9999


def _run_plainly(bundle: Path) -> NDArray[np.float32]:
    """Return the vectors of the bundle's graph without ONNX Runtime's optimisations, each text alone."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session: Any = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, ["CPUExecutionProvider"])
    with Embedder(bundle, device="cpu") as model:
        pipeline = model._open.routes.main
        tokens = pipeline.tokenize(TEXTS)
        batches = pipeline.batches(tokens, iter([np.array([row]) for row in range(len(TEXTS))]))
        return np.concatenate([session.run(None, batch.inputs)[0] for batch in batches])
