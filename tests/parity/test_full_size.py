"""LaBSE at its full size, 471 million parameters: export, verification, equality and memory.

The weights are random, for the architecture and the size are what counts; the vocabulary has LaBSE's number of entries.
Run by hand with scripts/full-size, which also prints the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph.engines import dtypes_of
from support.process_memory import run_measured
from support.tatoeba import Tatoeba

pytestmark = pytest.mark.slow

GB = 1e9
# Of the proportional set sizes of all processes of an export.
EXPORT_PEAK_LIMIT_BYTES = 4.3 * GB
ANONYMOUS_LIMIT_BYTES = 0.60 * GB

EXPORT = (sys.executable, "-m", "monograph", "export", "--recipe", "LaBSE")
# Random weights show sizes and memory; how near compressed vectors are is shown by real ones.
UNGATED = ("--min-mean-cosine", "0", "--min-worst-cosine", "-1", "--min-neighbour-agreement", "0")

BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.checkpoints import from_recipe
from monograph_export.recipes import read_recipe
print(from_recipe(read_recipe("LaBSE"), Path(sys.argv[2]), Path(sys.argv[3])))
"""
EMBED = """
import json, sys, time
begin = time.perf_counter()
from pathlib import Path
import numpy as np
from monograph import Embedder
model = Embedder(sys.argv[1], *sys.argv[4:])
model.encode("a first text")
start = time.perf_counter() - begin
texts = json.loads(Path(sys.argv[2]).read_text())
begin = time.perf_counter()
vectors = model.encode(texts)
seconds = time.perf_counter() - begin
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
np.save(sys.argv[3], vectors)
anonymous, mapped = (int(status[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
print(json.dumps({"model": repr(model), "anonymous": anonymous, "file": mapped, "start": start, "seconds": seconds}))
"""


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labse")
    vocabulary = data / "labse-scale-vocab" / "vocab.txt"
    return Path(python(BUILD, Path(__file__).parents[1], folder, vocabulary).strip())


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    output = checkpoint.parent / "bundle"
    export_measured(checkpoint, output, "--table", "fp32")
    return output


def export_measured(checkpoint: Path, output: Path, *options: str) -> None:
    peak = run_measured([*EXPORT, *options, str(checkpoint), str(output)])
    print(f"\nexport: peak memory of all processes {peak / GB:.2f} GB")
    assert peak <= EXPORT_PEAK_LIMIT_BYTES


def test_architecture_is_labse(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    shape = (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"])
    assert shape == (12, 768, 501_153)
    kinds = [module["type"].rsplit(".", 1)[1] for module in json.loads((checkpoint / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert json.loads((checkpoint / "1_Pooling" / "config.json").read_text())["pooling_mode"] == "cls"
    assert json.loads((checkpoint / "2_Dense" / "config.json").read_text())["activation_function"].endswith("Tanh")


def test_bundle_verifies(bundle: Path) -> None:
    command = [sys.executable, "-m", "monograph", "verify", str(bundle)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def texts(tatoeba: Tatoeba) -> list[str]:
    return tatoeba.mixed(1000)


@pytest.fixture(scope="module")
def expected(checkpoint: Path, texts: list[str]) -> NDArray[np.float32]:
    """What sentence-transformers gives at batch size 1."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    vectors: NDArray[np.float32] = reference.encode(texts, batch_size=1, show_progress_bar=False)
    return vectors


def measured(bundle: Path, texts: list[str], folder: Path, *device: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    (folder / "texts.json").write_text(json.dumps(texts))
    output = folder / "vectors.npy"
    measurement: dict[str, Any] = json.loads(python(EMBED, bundle, folder / "texts.json", output, *device))
    print(
        f"\n{measurement['model']}: first vector after {measurement['start']:.2f} s, "
        f"1,000 sentences in {measurement['seconds']:.1f} s, "
        f"anonymous memory {measurement['anonymous'] / GB:.3f} GB, mapped {measurement['file'] / GB:.3f} GB"
    )
    return measurement, np.load(output)


def test_1000_sentences_equal_torch_and_the_weights_are_not_copied(
    bundle: Path, texts: list[str], expected: NDArray[np.float32], tmp_path: Path
) -> None:
    measurement, vectors = measured(bundle, texts, tmp_path, "cpu")
    difference = float(np.abs(vectors - expected).max())
    print(f"max abs difference to sentence-transformers at batch size 1: {difference:.2e}")
    assert difference <= 1e-5
    assert measurement["anonymous"] <= ANONYMOUS_LIMIT_BYTES


@pytest.mark.parametrize("compute_dtype", dtypes_of("openvino"))
def test_1000_sentences_are_close_to_torch_on_openvino(
    bundle: Path, texts: list[str], expected: NDArray[np.float32], tmp_path: Path, compute_dtype: str
) -> None:
    measured(bundle, texts, tmp_path, "openvino", compute_dtype)
    # The second start finds what the first compiled.
    _, vectors = measured(bundle, texts, tmp_path, "openvino", compute_dtype)
    cosines = np.einsum("nd,nd->n", vectors, expected)
    print(
        f"worst cosine to sentence-transformers {cosines.min():.7f}, difference {np.abs(vectors - expected).max():.2e}"
    )
    assert cosines.min() >= {"float32": 0.999999, "bfloat16": 0.9999}[compute_dtype]
    if compute_dtype == "float32":
        assert np.abs(vectors - expected).max() <= 1e-5


@dataclass(frozen=True)
class Compressed:
    """A way to export, and what its bundle and its use may take, in bytes."""

    options: tuple[str, ...]
    size: float
    anonymous: dict[str, float]


COMPRESSED = {
    "table": Compressed((), 0.75 * GB, {"cpu": 0.60 * GB, "openvino": 0.60 * GB}),
    "layers": Compressed(("--precision", "int8"), 0.50 * GB, {"cpu": 0.42 * GB, "openvino": 0.50 * GB}),
}


@pytest.fixture
def english_and_russian(data: Path, tmp_path: Path) -> list[Path]:
    """Files of sentences, and of the letter palochka in its spellings, alone and in words of Kabardian."""
    letters_file = json.loads((data / "kbd" / "derived_palochka_variants.json").read_text())
    letters = [chr(int(code.removeprefix("U+"), 16)) for code in letters_file["seen_in_the_wild"]]
    words = [template.format(p=letter) for template in letters_file["words_template"] for letter in letters]
    kabardian = tmp_path / "kbd.txt"
    kabardian.write_text("\n".join([*letters, *words]) + "\n", encoding="utf-8")
    return [*(data / "tatoeba-laser" / f"tatoeba.rus-eng.{side}" for side in ("eng", "rus")), kabardian]


def test_trimmed_it_fits_an_edge_app(
    checkpoint: Path, english_and_russian: list[Path], data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    options = [option for file in english_and_russian for option in ("--keep-vocab", str(file))]
    bulgarian = str(data / "tatoeba-laser" / "tatoeba.bul-eng.bul")
    command = [
        *EXPORT,
        *UNGATED,
        "--precision",
        "int8",
        *options,
        "--coverage",
        bulgarian,
        str(checkpoint),
        str(output),
    ]
    subprocess.run(command, check=True)
    size = sum(file.stat().st_size for file in output.iterdir())
    print(f"\ntrimmed: {size / GB:.3f} GB")
    assert size <= 0.15 * GB
    texts = [line for file in english_and_russian[:2] for line in file.read_text("utf-8").splitlines() if line][:1000]
    for device, limit in {"cpu": 0.28 * GB, "openvino": 0.35 * GB}.items():
        measured(output, texts, tmp_path, device)
        # The second start finds what the first compiled.
        measurement, vectors = measured(output, texts, tmp_path, device)
        assert np.isfinite(vectors).all()
        assert measurement["anonymous"] <= limit


@pytest.mark.parametrize("name", list(COMPRESSED))
def test_int8_is_small_on_disk_and_in_memory(checkpoint: Path, texts: list[str], tmp_path: Path, name: str) -> None:
    compressed = COMPRESSED[name]
    output = tmp_path / "bundle"
    export_measured(checkpoint, output, *UNGATED, *compressed.options)
    size = sum(file.stat().st_size for file in output.iterdir())
    print(f"\nint8 {name}: {size / GB:.3f} GB")
    assert size <= compressed.size
    for device, limit in compressed.anonymous.items():
        measurement, vectors = measured(output, texts, tmp_path, device)
        assert np.isfinite(vectors).all()
        assert measurement["anonymous"] <= limit
