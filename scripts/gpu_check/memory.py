"""Device memory over many texts, and what happens when there is too little."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from gpu_check.checkpoints import MINILM, prepare
from gpu_check.quantities import free_memory, worst_cosine
from gpu_check.record import Record
from gpu_check.sessions import graph_file, open_plain
from gpu_check.settings import Settings
from gpu_check.workloads import mixed_texts
from monograph import Embedder
from monograph.bundle import open_bundle
from monograph.engines import Engine, EngineOptions, open_engine
from monograph.engines.cuda import CudaEngine
from monograph.engines.native import NativeObject
from monograph.inference.pipeline import BatchRunner
from monograph.tokenization import TextTokenizer, TokenizedTexts

_PARTS = 10
# Room beside the weights: less than a batch of 32,768 tokens needs, more than one of 512.
_ROOM = 96 * 2**20


class GrowthError(Exception):
    """Memory grows from call to call, or its lack is no longer handled."""


def growth(settings: Settings, record: Record) -> None:
    """Record the free bytes of the device, and the process's own memory, after each tenth of many mixed texts."""
    _, bundle = prepare(MINILM, settings, record)
    texts = mixed_texts(2000)
    count = settings.growth // _PARTS
    free: list[int] = []
    resident: list[int] = []
    with Embedder(bundle, settings.device) as model:
        for part in range(_PARTS):
            for start in range(0, count, len(texts)):
                model.encode([f"{part} {start} {text}" for text in texts[: count - start]])
            free.append(free_memory())
            resident.append(_resident_bytes())
            record.put(texts=(part + 1) * count, free_device_bytes=free, resident_bytes=resident)
    # The first tenth sees most shapes; what is taken later is growth.
    taken = free[1] - free[-1]
    record.put(growth_behind_the_second_tenth_bytes=taken)
    if settings.on_gpu and taken > 64 * 2**20:
        raise GrowthError(f"{taken / 1e6:.0f} MB more device memory after {settings.growth} texts than after a fifth")


def out_of_memory(settings: Settings, record: Record) -> None:
    """Check that a batch without memory is halved and later ones are smaller: by a limited arena, and on a full GPU."""
    _, folder = prepare(MINILM, settings, record)
    bundle = open_bundle(folder)
    tokens = TextTokenizer(folder / "tokenizer.json")(mixed_texts(4000))
    logging.basicConfig(level=logging.WARNING)
    engine = open_engine(bundle, EngineOptions(settings.device, "auto", 1, None))
    expected = _run(bundle, engine, tokens)
    weights = sum(one.bytes for name, one in bundle.manifest.files.items() if name.endswith(".data"))
    record.put(budget=engine.tokens_per_batch, weights_bytes=weights)
    if not isinstance(engine, CudaEngine):
        raise GrowthError(f"the engine is {type(engine).__name__}")
    engine.close()

    limit = weights + _ROOM
    engine._session = NativeObject(
        open_plain(settings, graph_file(bundle), provider_options={"gpu_mem_limit": str(limit)})
    )
    limited = _run(bundle, engine, tokens)
    record.put(
        limited_arena={
            "limit_bytes": limit,
            "budget_afterwards": engine.tokens_per_batch,
            "worst_cosine": worst_cosine(limited, expected),
        }
    )
    engine.close()
    halved = engine.tokens_per_batch < record.values["budget"]
    record.put(full_gpu=_on_full_gpu(bundle, settings, tokens, expected))
    if not halved:
        raise GrowthError("the limit did not take effect: lower _ROOM of memory.py")


def _on_full_gpu(bundle: Any, settings: Settings, tokens: TokenizedTexts, expected: Any) -> dict[str, Any]:
    """Embed while all but a little of the GPU's memory is taken."""
    engine = open_engine(bundle, EngineOptions(settings.device, "auto", 1, None))
    # The engine's libraries take their own memory with the first run.
    engine.run({name: values[:1] for name, values in _first_batch(bundle, engine, tokens).items()})
    taken = torch.empty(max(0, free_memory() - _ROOM), dtype=torch.uint8, device=settings.device)
    free = free_memory()
    try:
        vectors = _run(bundle, engine, tokens)
    finally:
        del taken
        torch.cuda.empty_cache()
    budget = engine.tokens_per_batch
    engine.close()
    return {"free_bytes": free, "budget_afterwards": budget, "worst_cosine": worst_cosine(vectors, expected)}


def _first_batch(bundle: Any, engine: Engine, tokens: TokenizedTexts) -> dict[str, Any]:
    runner = _runner(bundle, engine)
    return next(runner.pad(tokens, runner.plan(tokens))).inputs


def _run(bundle: Any, engine: Engine, tokens: TokenizedTexts) -> Any:
    return _runner(bundle, engine).run(tokens)


def _runner(bundle: Any, engine: Engine) -> BatchRunner:
    return BatchRunner(engine, next(iter(bundle.manifest.tokenizers.values())), bundle.manifest.output_width, None)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
