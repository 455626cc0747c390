"""ONNX Runtime sessions of a graph on the device, and ways to run batches through them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_check.settings import Settings
from monograph.bundle import Bundle
from monograph.engines.cuda_libraries import find_library_problems
from monograph.engines.onnxruntime import import_onnxruntime, open_session, session_options

Batch: TypeAlias = Mapping[str, NDArray[Any]]
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# As the runtime's engine has them, but for what a variant changes.
_ON_GPU = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
# Ids that every shape's table has, without special tokens.
_IDS = (5, 1000)


class DeviceMissingError(Exception):
    """A session runs elsewhere than it should."""


class Runner(Protocol):
    """A way to run batches."""

    def run_all(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the output of each batch, float32 [b, d]."""


def provider_of(settings: Settings) -> str:
    """Return the name of the provider that should run every operator."""
    return _CUDA if settings.on_gpu else _CPU


def graph_file(bundle: Bundle) -> Path:
    """Return the bundle's graph for GPUs, which a CPU can run as well."""
    return next(bundle.path / graph.file for graph in bundle.manifest.graphs if "cuda" in graph.devices)


def open_plain(
    settings: Settings,
    file: Path,
    *,
    assignment: bool = False,
    profile: Path | None = None,
    provider_options: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    provider: str | None = None,
) -> Any:
    """Open a session.

    ``assignment`` records where each operator runs, ``profile`` is the prefix of a profile's file, ``sizes`` fixes
    axes of the inputs, and ``provider`` is another one, which is put before CUDA.

    Raises:
        DeviceMissingError: another provider than the first would run the graph.

    """
    runtime = import_onnxruntime()
    if settings.on_gpu:
        # Loads them where they are.
        find_library_problems(runtime)
    options = session_options(runtime, torch.get_num_threads())
    # Errors and warnings of a provider go to the stage's log.
    options.log_severity_level = 2
    if assignment:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    on_gpu = _ON_GPU | {"device_id": settings.device.partition(":")[2] or "0"} | dict(provider_options or {})
    providers: list[Any] = [*([provider] if provider else []), *([(_CUDA, on_gpu)] if settings.on_gpu else []), _CPU]
    session = open_session(runtime, file, options, providers)
    if (first := session.get_providers()[0]) != (due := provider or provider_of(settings)):
        raise DeviceMissingError(f"the session runs on {first} where {due} was due")
    return session


def random_batch(session: Any, rows: int, length: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return the inputs of a batch of random ids, padded on the right to lengths from a half to the whole."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(max(1, length // 2), length + 1, rows)
    lengths[0] = length
    filled = np.arange(length) < lengths[:, np.newaxis]
    values = {"input_ids": np.where(filled, generator.integers(*_IDS, (rows, length)), 0), "attention_mask": filled}
    return {
        one.name: values.get(one.name, np.zeros((rows, length))).astype(_DTYPES[one.type])
        for one in session.get_inputs()
    }


class Plain:
    """``session.run`` with arrays, as the runtime's engine does."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._types = {one.name: _DTYPES[one.type] for one in session.get_inputs()}

    def run_all(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the output of each batch, float32 [b, d]."""
        return [self._session.run(None, as_types(batch, self._types))[0] for batch in batches]


class TwoThreads:
    """Two sessions, each run by a thread of its own: one copies while the other computes."""

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._runners = runners

    def run_all(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the output of each batch, float32 [b, d]."""
        outputs: list[Any] = [None] * len(batches)
        failures: list[Exception] = []

        def work(runner: Runner, start: int) -> None:
            try:
                places = range(start, len(batches), len(self._runners))
                for place, output in zip(places, runner.run_all([batches[at] for at in places]), strict=True):
                    outputs[place] = output
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(one, at)) for at, one in enumerate(self._runners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return outputs


def as_types(batch: Batch, types: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the inputs that a graph has, in its types; a cast is part of what is measured."""
    return {name: batch[name].astype(dtype, copy=False) for name, dtype in types.items()}
