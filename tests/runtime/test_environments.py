"""What the environment says of threads, engines, folders, Python and languages changes no vector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monograph import Embedder
from support.environments import ALL, OF_THREADS, Environment, applied, is_refused, name_of

TEXTS = ["A boat.", "Two boats " * 30, "палуба"]
SECONDS = 120
# In the suite only those that once made a difference; the rest by hand.
SHORT: tuple[Environment, ...] = (
    OF_THREADS[0],
    {"OMP_NUM_THREADS": "abc", "RAYON_NUM_THREADS": "0", "TOKENIZERS_PARALLELISM": "abc"},
    {"ONEDNN_VERBOSE": "1", "ORT_LOGGING_LEVEL": "0", "TQDM_NCOLS": "-5", "COLUMNS": "1"},
    {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
    {"HOME": None, "XDG_CACHE_HOME": None, "MONOGRAPH_CACHE": None, "TMPDIR": "/nonexistent"},
)
CALLS = """
import json, locale, sys
try:
    locale.setlocale(locale.LC_ALL, "")
except locale.Error:
    pass
from monograph import Embedder
with Embedder(sys.argv[1], sys.argv[2], compute_dtype="float32") as model:
    texts = json.loads(sys.argv[3])
    vectors = [model.encode(texts), next(model.encode_iter(iter(texts))), model.encode(texts, batch_size=1)]
    print("vectors " + json.dumps([part.tolist() for part in vectors]))
"""


def run(environment: Environment, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        check=False, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, input=stdin,
        env=applied(environment, os.environ),
    )  # fmt: skip


ENVIRONMENTS = [pytest.param(chosen, id=name_of(chosen)) for chosen in SHORT]
ENVIRONMENTS += [pytest.param(chosen, id=name_of(chosen), marks=pytest.mark.slow) for chosen in ALL]


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_calls_give_the_right_vectors(
    environment: Environment, device: str, tiny_bundle: Path, tiny_embedder: Embedder
) -> None:
    done = run(environment, "-c", CALLS, tiny_bundle, device, json.dumps(TEXTS))
    if is_refused(environment, device):
        assert "DeviceError: OpenVINO does not run right while" in done.stderr.splitlines()[-1]
        return
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("vectors "))
    right = tiny_embedder.encode(TEXTS)
    for vectors in json.loads(line.removeprefix("vectors ")):
        assert np.abs(np.array(vectors) - right).max() <= 1e-5


@pytest.mark.parametrize("device", ["cpu", pytest.param("openvino", marks=pytest.mark.slow)])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_commands_give_the_right_output(
    environment: Environment, device: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    dtype = ("--device", device, "--compute-dtype", "float32")
    lines = "".join(f"{text}\n" for text in TEXTS)
    embedded = run(environment, "-m", "monograph", "embed", tiny_bundle, "-", "-o", output, *dtype, stdin=lines)
    if is_refused(environment, device):
        assert (embedded.returncode, embedded.stderr.count("\n")) == (1, 1)
        assert "unset it, or choose device 'cpu'" in embedded.stderr
        return
    assert embedded.returncode == 0, embedded.stderr
    assert np.abs(np.load(output) - tiny_embedder.encode(TEXTS)).max() <= 1e-5
    verified = run(environment, "-m", "monograph", "verify", tiny_bundle, *dtype)
    assert verified.returncode == 0, verified.stderr
