"""Weights in the layout of ONNX Runtime's kernels, cached and memory-mapped instead of packed at every start.

A session packs its weights into private memory. Mapped files are read on demand, and processes share their pages.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from monograph.atomic import atomic_folder, remove_abandoned
from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.cpu import cpu_identity
from monograph.errors import MonographError

_FILE = "model.onnx"
# Smaller weights stay in the graph, as constants of the kernels.
_MIN_BYTES = 1024
# Packed weights in a graph: the kernel's name, then offset, length and checksum of each block.
_KEY = b"prepacked_"
_BLOCKS = re.compile(_KEY + rb"\d+.{1,16}?\w+\+\d+\|([\d;]+)", re.DOTALL)
_NUMBERS_PER_BLOCK = 3
# The kernels load whole AVX-512 vectors, and an unaligned load crashes the process (seen with 1.31).
_ALIGNMENT = 64


def locate_packed_weights(cache: Path, bundle: Bundle, graph: Graph, version: str, disabled: tuple[str, ...]) -> Path:
    """Return the folder for the packed weights of a graph, of one ONNX Runtime version and one kind of CPU.

    ``disabled`` are the optimizers that are off.
    """
    key = (bundle.manifest_sha256, graph.file, version, cpu_identity(), *disabled)
    return cache / "packed" / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def find_packed_graph(folder: Path) -> Path | None:
    """Return the graph with packed weights in a folder, None where there is none."""
    file = folder / _FILE
    return file if file.is_file() else None


def write_packed_weights(
    runtime: ModuleType, graph_file: Path, folder: Path, options: Any, disabled: tuple[str, ...]
) -> None:
    """Write a graph as ONNX Runtime optimizes it on this CPU, with packed weights beside the plain ones.

    ``options`` are the session options for the graph, which are changed; ``disabled`` are the optimizers to turn off.

    Raises:
        OSError: the folder cannot be written.
        MonographError: ONNX Runtime wrote unaligned weights. It aligns only those of more than 1 MB, and the others
            where the sizes of all before them happen to be aligned.

    """
    for entry, value in (
        ("session.optimized_model_external_initializers_file_name", f"{_FILE}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(_MIN_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(entry, value)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    with atomic_folder(folder) as staging:
        options.optimized_model_filepath = str(staging / _FILE)
        runtime.InferenceSession(
            str(graph_file), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        if not _is_aligned((staging / _FILE).read_bytes()):
            raise MonographError(
                f"ONNX Runtime {runtime.__version__} writes the packed weights of {graph_file} unaligned, so that its "
                "kernels cannot read them: use the bundle without them"
            )


def _is_aligned(graph: bytes) -> bool:
    """Return whether a graph has packed weights, all at known and aligned offsets."""
    entries = [block.rstrip(b";").split(b";") for block in _BLOCKS.findall(graph)]
    if len(entries) != graph.count(_KEY):
        return False
    offsets = [int(numbers[i]) for numbers in entries for i in range(0, len(numbers), _NUMBERS_PER_BLOCK)]
    return bool(offsets) and all(offset % _ALIGNMENT == 0 for offset in offsets)
