"""Weights in the layout of ONNX Runtime's kernels, cached and memory-mapped instead of packed at every start.

A session packs its weights into private memory. Mapped files are read on demand, and processes share their pages.

Beside the two files are their hashes. That of the graph is compared at every start. The weights are hashed again only
where the system says that they may have changed since: hashing them takes longer than a start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monograph.bundle import Bundle
from monograph.bundle.files import sha256_of, state_of
from monograph.bundle.manifest import Graph
from monograph.cache import (
    PRIVATE_FILE,
    is_private,
    make_private_folder,
    read_cached,
    read_private,
    write_cached,
)
from monograph.cpu import cpu_identity
from monograph.engines.aligned_weights import ALIGNMENT_BYTES, align_weights
from monograph.engines.native import is_raised_by
from monograph.errors import MonographError, first_line

logger = logging.getLogger(__name__)
PACKED_FOLDER = "packed"
# How every warning of this kind begins.
PACKED_NOT_USED = "packed weights are not used"
_FILE = "model.onnx"
_WEIGHTS = f"{_FILE}.data"
_HASHES = "hashes"
# Smaller weights stay in the graph, as constants of the kernels.
_MIN_BYTES = 1024
# Packed weights in a graph: the kernel's name, then offset, length and checksum of each block.
_KEY = b"prepacked_"
_BLOCKS = re.compile(_KEY + rb"\d+.{1,16}?\w+\+\d+\|([\d;]+)", re.DOTALL)
_NUMBERS_PER_BLOCK = 3
_ROOM_BYTES = 2**20


def packed_weights_name(bundle: Bundle, graph: Graph, version: str, disabled: tuple[str, ...]) -> str:
    """Return the name of the folder for the packed weights of a graph, of one ONNX Runtime version and kind of CPU.

    ``disabled`` are the optimizers that are off.
    """
    key = (bundle.identity, graph.file, version, cpu_identity(), *disabled)
    return hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def find_packed_graph(folder: Path) -> Path | None:
    """Return the graph with packed weights in a folder; None where there is none, or none that may be used."""
    graph, weights = folder / _FILE, folder / _WEIGHTS
    try:
        folder.lstat()
    # Not there, or a cache that cannot be searched.
    except OSError:
        return None
    if (content := read_private(graph)) is not None and (hashes := _read_hashes(folder)) is not None:
        intact = hashlib.sha256(content).hexdigest() == hashes["graph"]
        try:
            if intact and is_private(weights, folder=False) and _are_intact(weights, hashes, folder):
                return graph
        except OSError:
            pass
    logger.warning(
        "%s: %s is damaged, or others may write there; run `monograph prepare` again", PACKED_NOT_USED, folder
    )
    return None


def write_packed_weights(
    open_graph: Callable[[], object], graph_file: Path, folder: Path, options: Any, version: str
) -> None:
    """Write a graph as ONNX Runtime optimizes it on this CPU, with packed weights beside the plain ones.

    ``open_graph`` opens a session of ``graph_file`` with ``options``, which are changed before; ``version`` is
    that of ONNX Runtime.

    Raises:
        OSError: the folder cannot be written.
        MonographError: ONNX Runtime could not write them, or wrote them in a way that is not known.

    """
    for entry, value in (
        ("session.optimized_model_external_initializers_file_name", _WEIGHTS),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(_MIN_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(entry, value)
    make_private_folder(folder)
    graph, weights = folder / _FILE, folder / _WEIGHTS
    options.optimized_model_filepath = str(graph)
    try:
        open_graph()
    except Exception as error:
        if not is_raised_by("onnxruntime", error):
            raise
        _check_room(folder)
        raise MonographError(
            f"ONNX Runtime cannot write the packed weights of {graph_file} to {folder} ({first_line(error)})"
        ) from error
    if not _is_aligned(graph.read_bytes()):
        align_weights(graph, weights)
        if not _is_aligned(graph.read_bytes()):
            raise MonographError(
                f"ONNX Runtime {version} writes the packed weights of {graph_file} unaligned, so that its "
                "kernels cannot read them: use the bundle without them"
            )
    for path in (graph, weights):
        path.chmod(PRIVATE_FILE)
    _write_hashes(folder, {"graph": sha256_of(graph), "weights": sha256_of(weights)})
    if find_packed_graph(folder) is None:
        raise OSError(errno.ENOSPC, "the packed weights are incomplete", str(folder))


def _check_room(folder: Path) -> None:
    """Raise ``OSError`` if nothing more can be written, which ONNX Runtime's errors do not say."""
    with (folder / "room").open("wb") as file:
        file.write(bytes(_ROOM_BYTES))


def _are_intact(weights: Path, hashes: dict[str, Any], folder: Path) -> bool:
    """Compare the weights with their hash, unless nothing has touched the file since that was done."""
    if hashes["state"] == [*state_of(weights)]:
        return True
    if sha256_of(weights) != hashes["weights"]:
        return False
    _write_hashes(folder, hashes)
    return True


def _read_hashes(folder: Path) -> dict[str, Any] | None:
    content = read_cached(folder / _HASHES)
    return None if content is None else dict(json.loads(content))


def _write_hashes(folder: Path, hashes: dict[str, Any]) -> None:
    write_cached(folder / _HASHES, json.dumps({**hashes, "state": state_of(folder / _WEIGHTS)}).encode())


def _is_aligned(graph: bytes) -> bool:
    """Return whether a graph has packed weights, all at known and aligned offsets."""
    entries = [block.rstrip(b";").split(b";") for block in _BLOCKS.findall(graph)]
    if len(entries) != graph.count(_KEY):
        return False
    offsets = [int(numbers[i]) for numbers in entries for i in range(0, len(numbers), _NUMBERS_PER_BLOCK)]
    return bool(offsets) and all(offset % ALIGNMENT_BYTES == 0 for offset in offsets)
