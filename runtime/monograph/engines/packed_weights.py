"""Weights as ONNX Runtime's kernels want them, kept in the cache and mapped in place of being made at every start.

A session packs its weights into memory of its own. Files that are mapped are read when they are needed, and processes
that map the same one share its pages.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from monograph.atomic import remove_left_behind, whole_folder
from monograph.bundle import Bundle
from monograph.bundle.manifest import Graph
from monograph.cpu import cpu_identity
from monograph.errors import MonographError

_FILE = "model.onnx"
# Smaller ones stay in the graph, as constants of the kernels.
_SMALLEST_BYTES = 1024
# Of packed weights in a graph: offset, length and checksum of each block, behind the name of the kernel.
_KEY = b"prepacked_"
_BLOCKS = re.compile(_KEY + rb"\d+.{1,16}?\w+\+\d+\|([\d;]+)", re.DOTALL)
_NUMBERS_A_BLOCK = 3
# The kernels load whole vectors of AVX-512, and one that lies across ends the process (seen with 1.31).
_ALIGNMENT = 64


def packed_folder(cache: Path, bundle: Bundle, graph: Graph, version: str, disabled: tuple[str, ...]) -> Path:
    """Return where the packed weights of a graph are, or will be: of one ONNX Runtime, for CPUs of one kind.

    ``disabled`` are the optimisers that leave the graph alone.
    """
    told = (bundle.manifest_sha256, graph.file, version, cpu_identity(), *disabled)
    return cache / "packed" / hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


def packed_graph(folder: Path) -> Path | None:
    """Return the graph with packed weights of a folder, None where it was not written."""
    file = folder / _FILE
    return file if file.is_file() else None


def write_packed(runtime: ModuleType, graph_file: Path, folder: Path, options: Any, disabled: tuple[str, ...]) -> None:
    """Write a graph as ONNX Runtime optimises it on this CPU, with its weights and those weights packed.

    ``options`` are those of sessions of the graph, with ``disabled`` optimisers, and are changed.

    Raises:
        OSError: the folder cannot be written.
        MonographError: ONNX Runtime places the weights where its kernels cannot read them. It aligns those of more than
            1 MB only, and the others where all before them are of such sizes.

    """
    for entry, value in (
        ("session.optimized_model_external_initializers_file_name", f"{_FILE}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(_SMALLEST_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(entry, value)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(folder)
    with whole_folder(folder) as staging:
        options.optimized_model_filepath = str(staging / _FILE)
        runtime.InferenceSession(
            str(graph_file), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        if not _is_aligned((staging / _FILE).read_bytes()):
            raise MonographError(
                f"ONNX Runtime {runtime.__version__} places packed weights of {graph_file} where its kernels cannot "
                "read them: open the bundle as it is"
            )


def _is_aligned(graph: bytes) -> bool:
    """Tell whether a graph has packed weights, and all at places that are known and aligned."""
    found = [block.rstrip(b";").split(b";") for block in _BLOCKS.findall(graph)]
    if len(found) != graph.count(_KEY):
        return False
    offsets = [int(numbers[i]) for numbers in found for i in range(0, len(numbers), _NUMBERS_A_BLOCK)]
    return bool(offsets) and all(offset % _ALIGNMENT == 0 for offset in offsets)
