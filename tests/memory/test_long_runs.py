"""The real MiniLM in processes that embed for long: memory that does not grow, and no work when there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from monograph.batching import padding_buckets_up_to
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, dtypes_of, open_engine
from monograph_export import export

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TEXTS = 200_000
# After so many the buffers of every length are there.
WARM = 20_000
MAX_GROWTH = 1.05
IDLE_SECONDS = 5
MAX_IDLE_CPU_SECONDS = 0.05
RUN = """
import ctypes, json, sys, time
import numpy as np
from monograph import Embedder

def anonymous():
    # Holes in the heap, where results of windows were, come and go with what lies behind them.
    ctypes.CDLL(None).malloc_trim(0)
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


@pytest.mark.slow
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
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    seen = report["anonymous"]
    print(f"{bundle}, {device} {compute_dtype}: {[round(size / 1e6) for size in seen]} MB, idle {report['idle']:.3f} s")
    assert report["texts"] == TEXTS
    assert len(seen) == TEXTS // WARM
    assert max(seen) <= MAX_GROWTH * seen[0]
    assert report["idle"] <= MAX_IDLE_CPU_SECONDS


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


# Slow because it takes two minutes until every cached kernel has been replaced.
@pytest.mark.slow
def test_memory_is_flat_over_thousands_of_shapes(minilm_bundle: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    padding_buckets = padding_buckets_up_to(128)
    options = EngineOptions("openvino", dtypes_of("openvino")[0], 2, tmp_path)
    with closing(open_engine(open_bundle(minilm_bundle), options)) as engine:
        used = []
        for number in range(3001):
            width = int(random.choice(padding_buckets))
            shape = (int(random.integers(1, max(2, 512 // width))), width)
            engine.run({name: np.ones(shape, np.int64) for name in engine.graph.inputs})
            if number % 1000 == 0:
                used.append(anonymous_bytes() / 1e6)
    assert used[3] - used[1] <= 0.15 * used[1], used


MEMORY = """
import sys
from pathlib import Path
from monograph import Embedder
def anonymous():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024
texts = [f"{number} " + "many words, each a token, " * 40 for number in range(32)]
model = Embedder(sys.argv[1], "cpu", threads=2)
model.encode(texts[:16])
before = anonymous()
model.encode(texts, batch_size=32)
print(anonymous() - before)
"""


def test_memory_of_a_batch_larger_than_planned_is_given_back(minilm_bundle: Path) -> None:
    """32 texts of 256 tokens at once take 300 MB, which the arena would keep."""
    command = [sys.executable, "-c", MEMORY, str(minilm_bundle)]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 100
