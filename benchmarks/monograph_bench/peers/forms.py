"""The forms of a checkpoint that peers load: exported once, by the tool that their users use, and kept.

A form is a folder with the checkpoint's settings and tokenizer, as ``settings`` spells them, and the encoder: as
``onnx/model.onnx``, or as ``openvino_model.xml`` with the tokenizer as a graph of its own.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from monograph.atomic import remove_left_behind, whole_folder
from monograph.bundle.files import sha256_of
from monograph_bench.peers.environments import PeerError, environment_of, requirements_of

# Raised when forms of before must be made again.
_FORMAT = b"2"
# Of a checkpoint: what its weights, settings and vocabularies are called.
_PARTS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
# Nothing is asked of a Hub for a checkpoint that is a folder.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True)
class FormSource:
    """What forms of a checkpoint are made of.

    ``transformer`` is the folder that optimum exports, for the task that it calls ``export_task``; ``write_settings``
    writes into a folder what else peers read: settings and tokenizer.
    """

    checkpoint: Path
    transformer: Path
    export_task: str
    write_settings: Callable[[Path], None]


@dataclass(frozen=True)
class _Export:
    """How a form is made: the peer in whose environment, optimum-cli's options, and the folder of the graph's files."""

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


def form_of(form: str, source: FormSource, home: Path, report: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of a form of a checkpoint, "onnx" or "openvino"; it is made where it is not there.

    Raises:
        PeerError: the environment that makes it is not there, or the export fails.
        CheckpointError: the checkpoint has no spelling that older releases read.

    """
    export = _EXPORTS[form]
    python = environment_of(export.peer, home)
    folder = home / "forms" / f"{form}-{_digest(source, export)[:16]}"
    if folder.is_dir():
        return folder
    report(f"exporting {source.checkpoint.name} for peers: {form}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder)
        with whole_folder(folder) as staging:
            _export(export, python, source, staging)
            _move(staging, export)
            source.write_settings(staging)
    except OSError as error:
        # Another run may have been faster; what it made is the same.
        if not folder.is_dir():
            raise PeerError(f"the form {form} of {source.checkpoint} cannot be written: {error}") from error
    return folder


def _export(export: _Export, python: Path, source: FormSource, output: Path) -> None:
    kind, *options = export.options
    tool = python.with_name("optimum-cli")
    command = [str(tool), "export", kind, "--model", str(source.transformer), "--task", source.export_task, *options]
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    done = subprocess.run(  # noqa: S603 - of the environment that is ours
        [*command, str(output)], capture_output=True, env=variables | _OFFLINE, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise PeerError(f"optimum-cli export {kind} failed: {said[-1] if said else 'no message'}")


def _move(staging: Path, export: _Export) -> None:
    """Put the graph's files where peers look for them; what the tool wrote beside them stays."""
    if not export.place:
        return
    (staging / export.place).mkdir()
    for path in list(staging.glob(export.files)):
        path.rename(staging / export.place / path.name)


def _digest(source: FormSource, export: _Export) -> str:
    """Return a hash of the checkpoint's weights and settings, of the task, and of the versions that export it."""
    checkpoint = source.checkpoint
    told = hashlib.sha256(_FORMAT + source.export_task.encode() + requirements_of(export.environment))
    files = {path for part in _PARTS for path in checkpoint.rglob(part)}
    for path in sorted(files):
        status = path.stat()
        digest = _hash_of(path, status.st_size, status.st_mtime_ns)
        told.update(f"{path.relative_to(checkpoint).as_posix()} {digest}\n".encode())
    return told.hexdigest()


@functools.cache
def _hash_of(path: Path, _size_bytes: int, _modified_ns: int) -> str:
    """Return the hash of a file; each form asks, and hashing 1.9 GB takes seconds."""
    return sha256_of(path)
