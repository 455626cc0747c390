"""Ways to run the graph that the runtime does not have, beside its own, on the same batches in the same rounds."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gpu_check.bound_sessions import Bound, CudaGraphs
from gpu_check.checkpoints import MINILM, export_int8_weights, prepare
from gpu_check.graphs import write_int32, write_packed
from gpu_check.quantities import free_memory, worst_cosine
from gpu_check.record import Record
from gpu_check.rounds import interleave, rates
from gpu_check.sessions import Batch, Plain, Runner, TwoThreads, graph_file, open_plain
from gpu_check.settings import Settings
from gpu_check.workloads import MIXED, make_workloads
from monograph.batching import pad_batch, plan_batches
from monograph.bundle import Bundle, open_bundle
from monograph.tokenization import TextTokenizer, TokenizedTexts

BASE = "lengths (the runtime's graph)"
# Padded tokens of a batch, as the runtime's engine plans them today.
_BUDGET = 32_768
_BUDGETS = (8192, 16_384, 32_768, 65_536, 131_072)
_MAX_TOKENS, _MAX_ROWS = 2 * max(_BUDGETS), 8192
# Bits of sdpa_kernel: the kernels of attention that ONNX Runtime may choose from (AttentionBackend).
_SDPA = {"flash": 1, "efficient": 2, "TensorRT's fused": 4, "cuDNN's flash": 8, "unfused": 16}
# Graphs are captured for a shape: these occur again and again.
_SINGLE, _FIXED = (1, 16), (256, 128)


class _Makers:
    """The variants by name, each with what opens it, and whether it runs any shape."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._bundle, self._settings = bundle, settings
        self._file = graph_file(bundle)
        self._folder = settings.folder / "variants"
        self._dimension = bundle.manifest.output_width
        self.of_any_shape: dict[str, Callable[[], Runner]] = {
            BASE: self._plain,
            "mask (the graph for CPUs)": lambda: self._plain(bundle.path / "model.onnx"),
            "ids as int32": lambda: self._plain(write_int32(self._file, self._folder)),
            "bound, reused buffers": self._bound,
            "bound, reused buffers, ids as int32": lambda: self._bound(write_int32(self._file, self._folder)),
            "bound, copies overlapped": lambda: self._bound(slots=2),
            "two sessions": lambda: TwoThreads([self._plain(), self._plain()]),
            "two sessions, bound": lambda: TwoThreads([self._bound(), self._bound()]),
        }
        self.on_gpu: dict[str, Callable[[], Runner]] = {
            "packed": lambda: self._plain(write_packed(self._file, self._folder)),
            "packed, bound, copies overlapped": lambda: self._bound(write_packed(self._file, self._folder), slots=2),
            **{
                f"attention: {name}": partial(self._plain, options={"sdpa_kernel": str(bit)})
                for name, bit in _SDPA.items()
            },
            "TensorRT": self._tensorrt,
        }
        self.of_few_shapes: dict[str, Callable[[], Runner]] = {
            "CUDA graphs": lambda: CudaGraphs(settings, self._file, self._dimension)
        }

    def _plain(self, file: Path | None = None, options: Mapping[str, str] | None = None) -> Runner:
        return Plain(open_plain(self._settings, file or self._file, provider_options=options))

    def _bound(self, file: Path | None = None, slots: int = 1) -> Runner:
        return Bound(self._settings, file or self._file, self._dimension, _MAX_TOKENS, _MAX_ROWS, slots)

    def _tensorrt(self) -> Runner:
        return Plain(open_plain(self._settings, self._file, provider="TensorrtExecutionProvider"))


def measure(settings: Settings, record: Record) -> None:
    """Compare all variants: batches of mixed texts, single texts, and batches of one shape."""
    _, folder = prepare(MINILM, settings, record)
    bundle = open_bundle(folder)
    makers = _Makers(bundle, settings)
    tokens, batches = _mixed_batches(folder, settings)
    fixed = _FIXED if settings.on_gpu else (4, 64)
    sets: dict[str, Sequence[Batch]] = {
        "mixed texts": batches,
        f"{_SINGLE[0]} x {_SINGLE[1]}": _alike(*_SINGLE, 40 if settings.on_gpu else 4),
        f"{fixed[0]} x {fixed[1]}": _alike(*fixed, 8 if settings.on_gpu else 2),
    }
    record.put(
        on_cpu_not_tried=[] if settings.on_gpu else [*makers.on_gpu, *makers.of_few_shapes],
        batches={name: [list(one["input_ids"].shape) for one in of][:20] for name, of in sets.items()},
        tokens_of_mixed_texts=int(tokens.lengths.sum()),
    )
    if not settings.on_gpu:
        record.put(packed_graph=_check_packed(bundle, settings))
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    memory: dict[str, int] = {}
    first = next(iter(sets.values()))[-1:]
    for name, make in (makers.of_any_shape | (makers.on_gpu if settings.on_gpu else {})).items():
        before = free_memory()
        _try(name, make, first, runners, failures)
        memory[name] = before - free_memory()
        record.put(failures=failures, device_memory_bytes=memory)
    results: dict[str, Any] = {}
    for index, (name, of) in enumerate(sets.items()):
        running = dict(runners)
        if index > 0 and settings.on_gpu:
            for few, make in makers.of_few_shapes.items():
                _try(few, make, of[:1], running, failures)
        results[name] = _compare(running, of, settings, record, record.seconds_left / (len(sets) - index), failures)
        record.put(results=results, failures=failures)


def _check_packed(bundle: Bundle, settings: Settings) -> str:
    """Build the packed graph and have its types and shapes checked, which is all that a CPU can do with it.

    ONNX Runtime infers both before it looks for an implementation, which it has for GPUs alone.
    """
    file = write_packed(graph_file(bundle), settings.folder / "variants")
    onnx.checker.check_model(str(file))
    try:
        open_plain(settings, file)
    except Exception as error:
        if "Could not find an implementation for" not in str(error):
            raise
        return f"built and checked; {error}"
    raise AssertionError("a CPU has an implementation of the packed graph's operators now: compare it here, too")


def measure_budgets(settings: Settings, record: Record) -> None:
    """Compare token budgets, by the runtime's graph and with overlapped copies."""
    _, folder = prepare(MINILM, settings, record)
    bundle = open_bundle(folder)
    makers = _Makers(bundle, settings)
    tokens, _ = _mixed_batches(folder, settings)
    runners = {name: makers.of_any_shape[name]() for name in (BASE, "bound, copies overlapped")}
    budgets = _BUDGETS if settings.on_gpu else (1024, 2048)
    calls = {}
    for budget in budgets:
        batches = _plan(tokens, budget, bundle)
        for name, runner in runners.items():
            runner.run_all(batches)
            calls[f"{budget} tokens, {name}"] = partial(runner.run_all, batches)
    times = interleave(calls, settings.rounds, record, record.seconds_left)
    record.put(results=rates(times, len(tokens.lengths), int(tokens.lengths.sum())), free_device_bytes=free_memory())


def measure_int8_weights(settings: Settings, record: Record) -> None:
    """Compare a graph with int8 weights, whose quality on random weights says nothing, with the float16 one."""
    _, folder = prepare(MINILM, settings, record)
    bundle = open_bundle(folder)
    int8 = export_int8_weights(settings)
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    _, batches = _mixed_batches(folder, settings)
    _try(BASE, _Makers(bundle, settings).of_any_shape[BASE], batches[-1:], runners, failures)
    _try("int8 weights", lambda: Plain(open_plain(settings, int8 / "model.onnx")), batches[-1:], runners, failures)
    record.put(failures=failures)
    record.put(results=_compare(runners, batches, settings, record, record.seconds_left, failures))


def _try(
    name: str,
    make: Callable[[], Runner],
    batches: Sequence[Batch],
    runners: dict[str, Runner],
    failures: dict[str, str],
) -> None:
    """Open a variant and run a batch, or note why that fails."""
    try:
        runner = make()
        runner.run_all(batches)
        runners[name] = runner
    except Exception:  # noqa: BLE001 - the reason is the result
        failures[name] = traceback.format_exc()


def _compare(
    runners: Mapping[str, Runner],
    batches: Sequence[Batch],
    settings: Settings,
    record: Record,
    seconds: float,
    failures: dict[str, str],
) -> dict[str, Any]:
    """Return the rate of each variant, and the lowest cosine of its vectors to those of the first."""
    cosines: dict[str, float] = {}
    expected: NDArray[np.float32] | None = None
    able: dict[str, Runner] = {}
    for name, runner in runners.items():
        try:
            vectors = np.concatenate(runner.run_all(batches))
        except Exception:  # noqa: BLE001 - the reason is the result
            failures[name] = traceback.format_exc()
            continue
        able[name] = runner
        expected = vectors if expected is None else expected
        cosines[name] = worst_cosine(vectors, expected)
    times = interleave(
        {name: partial(one.run_all, batches) for name, one in able.items()}, settings.rounds, record, seconds
    )
    texts = sum(len(batch["input_ids"]) for batch in batches)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    figures = rates(times, texts, tokens)
    return {name: figures[name] | {"worst_cosine": cosines[name]} for name in figures}


def _mixed_batches(folder: Path, settings: Settings) -> tuple[TokenizedTexts, list[Batch]]:
    texts = make_workloads(folder, settings.texts)[MIXED].texts
    tokens = TextTokenizer(folder / "tokenizer.json")(texts)
    return tokens, _plan(tokens, _BUDGET if settings.on_gpu else 1024, open_bundle(folder))


def _plan(tokens: TokenizedTexts, budget: int, bundle: Bundle) -> list[Batch]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    pad_id = next(iter(bundle.manifest.tokenizers.values())).pad_id
    plan = plan_batches(tokens.lengths, budget, None, _MAX_ROWS)
    return [pad_batch(tokens, rows, names, pad_id).inputs for rows in plan]


def _alike(rows: int, length: int, count: int) -> list[Batch]:
    """Return batches of one shape, of random ids and lengths."""
    generator = np.random.default_rng(0)
    batches: list[Batch] = []
    for _ in range(count):
        lengths = generator.integers(max(1, length // 2), length + 1, rows)
        lengths[0] = length
        filled = (np.arange(length) < lengths[:, np.newaxis]).astype(np.int64)
        ids = generator.integers(5, 1000, (rows, length)) * filled
        batches.append({"input_ids": ids, "attention_mask": filled, "token_type_ids": np.zeros_like(filled)})
    return batches
