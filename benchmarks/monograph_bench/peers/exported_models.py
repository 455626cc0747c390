"""Checkpoints in the formats that peers load: exported once, by the tool that their users use, and cached.

An exported model is a folder with the checkpoint's settings and tokenizer, as ``settings`` spells them, and the
encoder: as ``onnx/model.onnx``, or as ``openvino_model.xml`` with the tokenizer as a graph of its own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monograph.atomic import atomic_folder
from monograph.bundle.files import sha256_of
from monograph.progress import SILENT, Progress
from monograph_bench.peers.environments import PeerError, find_python, requirements_of, run_tool

# Raised when models exported before must be exported again.
_FORMAT = b"2"
# The names of a checkpoint's weights, settings and vocabularies.
_PARTS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
# Nothing is asked of a Hub for a checkpoint that is a folder.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True)
class ExportSource:
    """What a checkpoint is exported from.

    ``transformer`` is the folder that optimum exports, for the task that it calls ``export_task``; ``write_settings``
    writes into a folder the other files that peers read: settings and tokenizer. ``options`` are those of the peer's
    adapter that say what is behind the encoder.
    """

    checkpoint: Path
    transformer: Path
    export_task: str
    write_settings: Callable[[Path], None]
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Export:
    """How a format is made: the peer whose environment does it, optimum-cli's options, and where the graph goes."""

    peer: str
    environment: str
    options: tuple[str, ...]
    place: str
    files: str


_EXPORTS: Mapping[str, _Export] = {
    # The library is named because optimum would else put pooling into the graph, which none of these peers expects.
    "onnx": _Export("optimum", "optimum", ("onnx", "--library-name", "transformers"), "onnx", "model.onnx*"),
    # Weights as they are: by itself it makes those of large models int8.
    "openvino": _Export(
        "openvino-genai",
        "openvino",
        ("openvino", "--library", "transformers", "--weight-format", "fp32"),
        "",
        "openvino_*",
    ),
}


def export_for_peers(name: str, source: ExportSource, home: Path, progress: Progress = SILENT) -> Path:
    """Return the folder of a checkpoint in a format, "onnx" or "openvino"; it is exported unless it is cached.

    The export is a step of ``progress``.

    Raises:
        PeerError: the environment that exports it is not there, the export fails, or the checkpoint has no spelling
            that older releases read.

    """
    export = _EXPORTS[name]
    python = find_python(export.peer, home)
    folder = home / "exported" / f"{name}-{_digest(source, export)[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            progress.step(f"Exporting {source.checkpoint.name} to {name} for peers"),
            atomic_folder(folder) as staging,
        ):
            _run_optimum(export, python, source, staging)
            _move(staging, export)
            source.write_settings(staging)
    except OSError as error:
        # Another run may have been faster; what it made is the same.
        if not folder.is_dir():
            raise PeerError(f"{source.checkpoint} exported to {name} cannot be written: {error}") from error
    return folder


def _run_optimum(export: _Export, python: Path, source: ExportSource, output: Path) -> None:
    kind, *options = export.options
    tool = str(python.with_name("optimum-cli"))
    command = [tool, "export", kind, "--model", str(source.transformer), "--task", source.export_task, *options]
    run_tool(f"optimum-cli export {kind}", [*command, str(output)], _OFFLINE)


def _move(staging: Path, export: _Export) -> None:
    """Put the graph's files where peers look for them; what the tool wrote beside them stays."""
    if not export.place:
        return
    (staging / export.place).mkdir()
    for path in list(staging.glob(export.files)):
        path.rename(staging / export.place / path.name)


def _digest(source: ExportSource, export: _Export) -> str:
    """Return a hash of the checkpoint's weights and settings, of the task, and of the versions that export it."""
    checkpoint = source.checkpoint
    digest = hashlib.sha256(_FORMAT + source.export_task.encode() + requirements_of(export.environment))
    files = {path for part in _PARTS for path in checkpoint.rglob(part)}
    for path in sorted(files):
        status = path.stat()
        own = _hash_of(path, status.st_size, status.st_mtime_ns)
        digest.update(f"{path.relative_to(checkpoint).as_posix()} {own}\n".encode())
    return digest.hexdigest()


@functools.cache
def _hash_of(path: Path, _size_bytes: int, _modified_ns: int) -> str:
    """Return the hash of a file; each export needs it, and hashing 1.9 GB takes seconds."""
    return sha256_of(path)
