"""Real files of optimum, exported where there is no torch, beside the traced bundle and sentence-transformers' backend.

They need the environment that `monograph bench --setup-peers optimum` makes, and skip where it is not there.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.bundle import open_bundle
from monograph_bench.peers import environments
from monograph_bench.peers.environments import PeerError, find_python
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
# There, too: what sentence-transformers makes of such a file.
EMBED = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
checkpoint, file, output = sys.argv[1:]
model = SentenceTransformer(
    checkpoint, backend="onnx", device="cpu", local_files_only=True,
    model_kwargs={"file_name": file, "provider": "CPUExecutionProvider"},
)
np.save(output, model.encode(json.load(sys.stdin), batch_size=1))
"""


@pytest.fixture(scope="module")
def optimum() -> Path:
    """The interpreter of optimum's environment."""
    try:
        return find_python("optimum", HOME)
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


@pytest.fixture(scope="module")
def python_without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the extra that an export from an ONNX file needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{PROJECT}[from-onnx,onnx]")
    installed = {package["name"].lower() for package in json.loads(run(python, "-m", "pip", "list", "--format=json"))}
    assert not installed & {"torch", "transformers", "sentence-transformers", "onnxscript", "scipy"}
    return python


@pytest.mark.parametrize("file", ["onnx/model.onnx", "onnx/st/model.onnx"])
def test_a_bundle_made_without_torch_equals_the_traced_one(
    file: str, checkpoint: Path, python_without_torch: Path, minilm_bundle: Path, tmp_path: Path
) -> None:
    output = run(
        python_without_torch, "-P", "-m", "monograph", "export", checkpoint, tmp_path / "bundle", "--from-onnx", file,
        "--recipe", "all-MiniLM-L6-v2",
    )  # fmt: skip
    print(f"\n{output}")
    difference = np.abs(embedded(tmp_path / "bundle") - embedded(minilm_bundle)).max()
    print(f"max abs difference to the traced bundle {difference:.1e}")
    assert difference <= 1e-5
    assert open_bundle(tmp_path / "bundle").manifest.tokenizer == open_bundle(minilm_bundle).manifest.tokenizer


@pytest.mark.parametrize("target", QUANTIZED)
def test_an_int8_file_equals_sentence_transformers_backend(
    target: str, checkpoint: Path, optimum: Path, tmp_path: Path
) -> None:
    """ONNX Runtime fuses the bundle's graph as it fuses the file, so that both round alike."""
    file = f"onnx/model_{target}.onnx"
    bundle = export(checkpoint, tmp_path / "bundle", from_onnx=file)
    run(optimum, "-c", EMBED, checkpoint, file, tmp_path / "vectors.npy", given=json.dumps(TEXTS))
    difference = np.abs(embedded(bundle.path) - np.load(tmp_path / "vectors.npy")).max()
    print(f"\n{target}: {bundle.size_bytes / 1e6:.1f} MB, max abs difference {difference:.1e}")
    assert difference <= 1e-5
