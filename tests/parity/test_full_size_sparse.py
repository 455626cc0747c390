"""splade-cocondenser's architecture at its full size, with random weights: export, equality and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers

from monograph import SparseEncoder
from monograph_export import export
from support.sparse_encoders import save_full_size_splade

pytestmark = pytest.mark.slow

VOCABULARY = 30_522
# For 32 texts of 256 tokens, of which the logits alone would be 1 GB.
LIMIT_BYTES = 400e6
SENTENCE = "seven grey geese flew over the quiet harbour before the rain began and nobody in the café looked up"
WORDS = SENTENCE.split()
MEASURE = """
import json, sys
from monograph import SparseEncoder
def memory(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
texts = json.loads(sys.argv[3])
size = None if sys.argv[4] == "None" else int(sys.argv[4])
with SparseEncoder(sys.argv[1], *sys.argv[2].split(), threads=2) as model:
    model.encode_active("a first text")
    idle = memory("VmRSS")
    # Reset the peak that opening it reached.
    open("/proc/self/clear_refs", "w").write("5")
    model.encode_active(texts, batch_size=size)
    print(memory("VmHWM") - idle)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    return save_full_size_splade(tmp_path_factory.mktemp("splade"), minilm / "vocab.txt")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("bundle") / "bundle").path


def test_the_weights_are_no_larger_than_the_checkpoint(checkpoint: Path, bundle: Path) -> None:
    checkpoint_size = (checkpoint / "model.safetensors").stat().st_size
    assert (bundle / "model.onnx.data").stat().st_size < 1.01 * checkpoint_size


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_vectors_are_those_of_sentence_transformers(device: str, checkpoint: Path, bundle: Path) -> None:
    texts = [" ".join((WORDS * 20)[start : start + length]) for start, length in enumerate((1, 2, 9, 30, 90, 300))]
    reference: Any = sentence_transformers.SparseEncoder(str(checkpoint), device="cpu", local_files_only=True)
    expected = np.asarray(reference.encode(texts, batch_size=1, convert_to_sparse_tensor=False))
    with SparseEncoder(bundle, device, "float32") as model:
        actual = model.encode(texts).toarray()
    assert actual.shape == (6, VOCABULARY)
    assert np.abs(actual - expected).max() <= 1e-4
    assert np.array_equal(actual > 1e-4, expected > 1e-4)
    assert 0.001 < np.count_nonzero(expected) / expected.size < 0.1


@pytest.mark.parametrize("device", ["cpu float32", "openvino float32", "openvino bfloat16"])
@pytest.mark.parametrize("batch_size", [None, 32])
def test_a_batch_of_long_texts_stays_small(device: str, batch_size: int | None, bundle: Path) -> None:
    texts = json.dumps([f"{number} {' '.join((WORDS * 20)[number : number + 300])}" for number in range(32)])
    command = [sys.executable, "-c", MEASURE, str(bundle), device, texts, str(batch_size)]
    above = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{device}, batch_size {batch_size}: {above / 1e6:.0f} MB above the idle model")
    assert above < LIMIT_BYTES
