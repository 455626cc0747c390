"""Measure ColBERTv2's and bge-m3's architectures in interleaved rounds, each system in a process of its own.

The vectors of the latter are compared with torch's as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], object]
# The first is what others are compared with.
SYSTEMS = {"colbert": ("torch", "monograph"), "bge-m3": ("torch dense", "dense", "all three")}
_BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_XLM_R_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
# bge-m3's own: of the rows, texts use as many as the small tokenizer has.
_BGE_M3 = {**_XLM_R_LARGE, "vocab_size": 250_002, "max_position_embeddings": 8194}
_TRAINED_RANGE = {"initializer_range": 0.02}
_BGE_M3_LENGTH = 512
_WARM_UP_TEXTS = 8
_DEVICES = ("cpu", "openvino")


def main() -> int:
    """Build, export and measure a model."""
    parser = argparse.ArgumentParser(prog="scripts/multi-vector-speed", description=__doc__)
    parser.add_argument("model", choices=SYSTEMS)
    parser.add_argument("--tiny", action="store_true", help="a model of one layer, to try the script")
    parser.add_argument("--device", action="append", help="of monograph; may be repeated; default: cpu and openvino")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where models are left, and found by the next run")
    parser.add_argument("--build-only", action="store_true", help="measure nothing: for --folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return work(json.loads(arguments.worker))
    with tempfile.TemporaryDirectory() as temporary:
        run(arguments, arguments.folder or Path(temporary))
    return 0


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Build a model in a folder, compare it with torch, and measure it."""
    paths = find_paths(arguments.model, folder) or build(arguments.model, folder, tiny=arguments.tiny)
    if arguments.build_only:
        return
    texts = make_texts(arguments.texts)
    # Not by the workers, whose memory is measured.
    (folder / "texts.json").write_text(json.dumps(texts))
    if arguments.model == "bge-m3":
        compare(arguments, paths, texts)
    measure(arguments, {**paths, "texts": str(folder / "texts.json")})


def find_paths(model: str, folder: Path) -> dict[str, str] | None:
    """Return what an earlier run has left in a folder, None if it has not finished."""
    names = ("checkpoint", "bundle", "dense") if model == "bge-m3" else ("checkpoint", "bundle")
    paths = {name: folder / name for name in names}
    complete = all((paths[name] / "manifest.json").is_file() for name in names[1:])
    return {name: str(path) for name, path in paths.items()} if complete else None


def build(model: str, folder: Path, *, tiny: bool) -> dict[str, str]:
    """Save a checkpoint with random weights and export it; return the paths by what they are."""
    from monograph_export import export
    from support.hybrid_models import save_hybrid
    from support.multi_vector_encoders import save_multi_vector

    if model == "colbert":
        config = {} if tiny else {**_BERT_BASE, **_TRAINED_RANGE, "max_position_embeddings": 512}
        dimension = 24 if tiny else 128
        length = 64 if tiny else 180
        lengths = {"document_length": length, "max_length": length}
        checkpoint = save_multi_vector("BERT", folder, dimension=dimension, config=config, **lengths)
        bundle = export(checkpoint, folder / "bundle", show_progress_bar=False)
        return {"checkpoint": str(checkpoint), "bundle": str(bundle.path)}
    config = {} if tiny else {**_BGE_M3, **_TRAINED_RANGE}
    length = 64 if tiny else _BGE_M3_LENGTH
    checkpoint = save_hybrid(folder, dimension=24 if tiny else 1024, config=config, max_length=length)
    # The table of so many rows would be int8 by default, and differ from torch's.
    bundle = export(checkpoint, folder / "bundle", table="fp32", show_progress_bar=False)
    dense = export(checkpoint, folder / "dense", table="fp32", outputs="sentence_embedding", show_progress_bar=False)
    return {"checkpoint": str(checkpoint), "bundle": str(bundle.path), "dense": str(dense.path)}


def compare(arguments: argparse.Namespace, paths: dict[str, str], texts: list[str]) -> None:
    """Print how far all three kinds of vectors are from the paper's formulas in torch, alone and batched."""
    from monograph import Embedder
    from support.hybrid_models import InTorch, largest_differences

    with Embedder(paths["bundle"], "cpu") as model:
        length = model.max_seq_length
    reference = InTorch.of(Path(paths["checkpoint"]), length)
    expected = [reference.encode(text) for text in texts]
    for device in arguments.device or _DEVICES:
        with Embedder(paths["bundle"], device, "float32", threads=arguments.threads) as model:
            for case, batch_size in (("batched", None), ("alone", 1)):
                differences = largest_differences(model.encode_all(texts, batch_size=batch_size), expected)
                line = ", ".join(f"{kind} {difference:.1e}" for kind, difference in differences.items())
                print(f"{device} float32, {len(texts)} texts {case}: max abs difference from torch: {line}", flush=True)


def measure(arguments: argparse.Namespace, paths: dict[str, str]) -> None:
    """Time every system in rounds, one after the other in each, and print medians, ratios and memory."""
    first, *others = SYSTEMS[arguments.model]
    devices = arguments.device or _DEVICES
    systems = [(first, ""), *((other, device) for device in devices for other in others)]
    common = {"model": arguments.model, "paths": paths, "threads": arguments.threads}
    workers = {system: Worker({**common, "system": system[0], "device": system[1]}) for system in systems}
    seconds: dict[tuple[str, str], list[float]] = {system: [] for system in systems}
    for _ in range(arguments.rounds):
        for system, worker in workers.items():
            seconds[system].append(worker.run())
    peaks = {system: worker.close() for system, worker in workers.items()}
    print(
        f"{arguments.model}, {arguments.texts} texts, {arguments.threads} threads, medians of {arguments.rounds} rounds"
    )
    for name, device in systems:
        own = seconds[name, device]
        ratios = [reference / mine for reference, mine in zip(seconds[systems[0]], own, strict=True)]
        peak, share = peaks[name, device] / 1e6, peaks[name, device] / peaks[systems[0]]
        line = f"{f'{name} {device}'.strip():24} {statistics.median(own):8.3f} s"
        line += f", {statistics.median(ratios):5.2f}x as fast as {first}, peak memory {peak:7,.0f} MB ({share:.2f})"
        if name == "all three":
            costs = [mine / dense for mine, dense in zip(own, seconds["dense", device], strict=True)]
            line += f", {statistics.median(costs):.3f} of the time of dense"
        print(line)


class Worker:
    """A system in a process of its own, which is idle between its rounds."""

    def __init__(self, settings: dict[str, Any]) -> None:
        threads = str(settings["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, __file__, settings["model"], "--worker", json.dumps(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._ask("ready")

    def run(self) -> float:
        """Return the seconds of a round."""
        return self._ask("run")

    def close(self) -> float:
        """Return the peak of resident memory in bytes, and end the process."""
        peak = self._ask("memory")
        self._process.communicate()
        return peak

    def _ask(self, what: str) -> float:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        print(what, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("answer "):
                return float(line.split()[1])
        raise RuntimeError(f"a worker ended with {self._process.wait()}: its error is above")


def work(settings: dict[str, Any]) -> int:
    """Answer the commands of ``Worker`` on standard input."""
    encode, texts = open_system(settings), json.loads(Path(settings["paths"]["texts"]).read_text())
    encode(texts[:_WARM_UP_TEXTS])
    for line in sys.stdin:
        answer = 0.0
        if line.strip() == "run":
            begin = time.perf_counter()
            encode(texts)
            answer = time.perf_counter() - begin
        elif line.strip() == "memory":
            status = Path("/proc/self/status").read_text()
            answer = 1024 * float(status.partition("VmHWM:")[2].split()[0])
        print(f"answer {answer}", flush=True)
    return 0


def open_system(settings: dict[str, Any]) -> Encode:
    """Open a model and return what encodes texts with it."""
    name, paths, threads = settings["system"], settings["paths"], settings["threads"]
    if name.startswith("torch"):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        kind = "MultiVectorEncoder" if settings["model"] == "colbert" else "SentenceTransformer"
        model: Any = getattr(sentence_transformers, kind)(paths["checkpoint"], device="cpu", local_files_only=True)
        return lambda texts: model.encode_document(texts, show_progress_bar=False)
    from monograph import Embedder, MultiVectorEncoder

    options: dict[str, Any] = {"device": settings["device"], "threads": threads}
    if settings["model"] == "colbert":
        return MultiVectorEncoder(paths["bundle"], **options).encode_document
    if name == "dense":
        return Embedder(paths["dense"], **options).encode
    return Embedder(paths["bundle"], **options).encode_all


def make_texts(count: int) -> list[str]:
    """Return different texts of about 10 to 200 words, from the project's own sentences."""
    from monograph_export.probe_texts import probe_sentences

    sentences = probe_sentences()
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 16, size=count)
    return [" ".join(sentences[place] for place in generator.integers(len(sentences), size=size)) for size in lengths]


if __name__ == "__main__":
    sys.exit(main())
