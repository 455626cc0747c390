"""What a process costs that embeds for long: memory that does not grow, and no work when there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monograph_export import export

pytestmark = pytest.mark.slow

TEXTS = 200_000
# After so many the buffers of every length are there.
WARM = 20_000
MOST_GROWTH = 1.05
IDLE_SECONDS = 5
MOST_IDLE_CPU_SECONDS = 0.05
RUN = """
import json, sys, time
import numpy as np
from monograph import Embedder

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

bundle, device, compute_dtype, count, step, idle = *sys.argv[1:4], *map(int, sys.argv[4:])
generator = np.random.default_rng(0)
# One word in most texts of some kinds, more than the model reads in a few.
lengths = np.minimum(generator.lognormal(2.5, 0.9, count).astype(int) + 1, 300)
words = "seven grey geese flew over the quiet harbour before rain began and nobody in a café looked up".split()
texts = (" ".join(generator.choice(words, size=length)) for length in lengths)
done, due, seen = 0, step, []
with Embedder(bundle, device, compute_dtype) as model:
    for block in model.encode_iter(texts):
        done += len(block)
        if done >= due:
            seen.append(anonymous())
            due += step
    before = time.process_time()
    time.sleep(idle)
    spent = time.process_time() - before
print(json.dumps({"texts": done, "anonymous": seen, "idle": spent}))
"""


@pytest.fixture(scope="module")
def int8_bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(minilm, tmp_path_factory.mktemp("int8") / "bundle", precision="int8").path


@pytest.mark.parametrize(
    ("bundle", "device", "compute_dtype"),
    [
        ("minilm_bundle", "cpu", "float32"),
        ("minilm_bundle", "openvino", "auto"),
        ("minilm_bundle", "openvino", "float32"),
        ("int8_bundle", "cpu", "float32"),
        ("int8_bundle", "openvino", "float32"),
    ],
)
def test_memory_stays_and_nothing_works_when_idle(
    bundle: str, device: str, compute_dtype: str, request: pytest.FixtureRequest
) -> None:
    command = [sys.executable, "-c", RUN, str(request.getfixturevalue(bundle)), device, compute_dtype]
    command += map(str, (TEXTS, WARM, IDLE_SECONDS))
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    seen = told["anonymous"]
    print(f"{bundle}, {device} {compute_dtype}: {[round(size / 1e6) for size in seen]} MB, idle {told['idle']:.3f} s")
    assert told["texts"] == TEXTS
    assert len(seen) == TEXTS // WARM
    assert max(seen) <= MOST_GROWTH * seen[0]
    assert told["idle"] <= MOST_IDLE_CPU_SECONDS
