"""Checkpoints in the formats that peers load: exported once, by the tool that their users use, and cached.

An exported model is a folder with the checkpoint's settings and tokenizer, as ``settings`` spells them, and the
encoder: as ``onnx/model.onnx``; as ``openvino_model.xml`` with the tokenizer as a graph of its own; or as the folder
``ctranslate2``. Quantized, ONNX is ``onnx/model_quantized.onnx``, as transformers.js names it, and OpenVINO has the
name of the float32 model.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monograph.atomic import atomic_folder
from monograph.bundle.files import sha256_of
from monograph.progress import SILENT, Progress
from monograph_bench.machine import instruction_sets
from monograph_bench.peers.environments import PeerError, find_peer, find_python, requirements_of, run_tool
from monograph_bench.texts import texts_of_mix

# Raised when models exported before must be exported again.
_FORMAT = b"2"
# The names of a checkpoint's weights, settings and vocabularies.
_PARTS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
# Nothing is asked of a Hub for a checkpoint that is a folder.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_QUANTIZATION = Path(__file__).parent / "quantization"
# As many as sentence-transformers takes of its own data set.
_CALIBRATION_TEXTS = 300


@dataclass(frozen=True)
class ExportSource:
    """What a checkpoint is exported from.

    ``transformer`` is the folder that optimum exports, for the task that it calls ``export_task``; ``write_settings``
    writes into a folder the other files that peers read: settings and tokenizer. ``options`` are those of the peer's
    adapter that say what is behind the encoder. ``language`` is that of the texts to calibrate with, None for all.
    """

    checkpoint: Path
    transformer: Path
    export_task: str
    write_settings: Callable[[Path], None]
    options: Mapping[str, object] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True)
class _Job:
    """An export to make: ``python`` has the tools, ``model`` is the folder to convert, ``output`` an empty folder."""

    source: ExportSource
    python: Path
    model: Path
    output: Path


@dataclass(frozen=True)
class _Export:
    """How a format is made: by a function, in the environment of a peer, of the checkpoint or of the format ``base``.

    ``depends_on`` names what the result depends on beside the checkpoint and the versions in the environment.
    """

    peer: str
    make: Callable[[_Job], None]
    base: str | None = None
    depends_on: Callable[[ExportSource], str] = lambda _: ""


def export_for_peers(name: str, source: ExportSource, home: Path, progress: Progress = SILENT) -> Path:
    """Return the folder of a checkpoint in a format, by its name in ``_EXPORTS``; it is exported unless it is cached.

    Each export is a step of ``progress``.

    Raises:
        PeerError: the environment that exports it is not there, the export fails, or the checkpoint has no spelling
            that older releases read.

    """
    export = _EXPORTS[name]
    python = find_python(export.peer, home)
    model = source.transformer if export.base is None else export_for_peers(export.base, source, home, progress)
    folder = home / "exported" / f"{name}-{_digest(source, export)[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            progress.step(f"Exporting {source.checkpoint.name} to {name} for peers"),
            atomic_folder(folder) as staging,
        ):
            export.make(_Job(source, python, model, staging))
            source.write_settings(staging)
    except OSError as error:
        # Another run may have been faster; what it made is the same.
        if not folder.is_dir():
            raise PeerError(f"{source.checkpoint} exported to {name} cannot be written: {error}") from error
    return folder


def _make_onnx(job: _Job) -> None:
    # The library is named because optimum would else put pooling into the graph, which none of these peers expects.
    _run_optimum(job, "onnx", "--library-name", "transformers")
    # Where peers look for them; what the tool wrote beside them stays.
    place = job.output / "onnx"
    place.mkdir()
    for path in list(job.output.glob("model.onnx*")):
        path.rename(place / path.name)


def _make_openvino(job: _Job) -> None:
    # Weights as they are: by itself it makes those of large models int8.
    _run_optimum(job, "openvino", "--library", "transformers", "--weight-format", "fp32")


def _run_optimum(job: _Job, kind: str, *options: str) -> None:
    tool = str(job.python.with_name("optimum-cli"))
    command = [tool, "export", kind, "--model", str(job.model), "--task", job.source.export_task, *options]
    run_tool(f"optimum-cli export {kind}", [*command, str(job.output)], _OFFLINE)


def _quantize_onnx(job: _Job) -> None:
    _run_script(job, "quantize_onnx.py", _onnx_configuration())


def _quantize_openvino(job: _Job) -> None:
    with tempfile.TemporaryDirectory(prefix="monograph-calibration-") as folder:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in _calibration_texts(job.source))
        (Path(folder) / "train.jsonl").write_text(lines, encoding="utf-8")
        _run_script(job, "quantize_openvino.py", folder)


def _run_script(job: _Job, script: str, *arguments: str) -> None:
    command = [str(job.python), "-P", str(_QUANTIZATION / script), str(job.model), str(job.output), *arguments]
    run_tool(script.removesuffix(".py"), command, _OFFLINE)


def _make_ctranslate2(job: _Job) -> None:
    tool = "ct2-transformers-converter"
    # A folder of its own: its config.json is another than the checkpoint's.
    place = str(job.output / "ctranslate2")
    command = [str(job.python.with_name(tool)), "--model", str(job.model), "--output_dir", place]
    run_tool(tool, [*command, "--quantization", "int8"], _OFFLINE)


def _calibration_texts(source: ExportSource) -> tuple[str, ...]:
    """Return texts of both lengths that are measured: calibrated with long ones alone, short ones lost much more."""
    half = _CALIBRATION_TEXTS // 2
    return (
        *texts_of_mix("short", half, source.language),
        *texts_of_mix("mixed", _CALIBRATION_TEXTS - half, source.language),
    )


def _onnx_configuration() -> str:
    """Return the name that sentence-transformers has for the quantization that fits this CPU."""
    sets = instruction_sets()
    if platform.machine() in ("arm64", "aarch64"):
        return "arm64"
    if "avx512_vnni" in sets:
        return "avx512_vnni"
    return "avx512" if "avx512f" in sets else "avx2"


_EXPORTS: Mapping[str, _Export] = {
    "onnx": _Export("optimum", _make_onnx),
    "openvino": _Export("openvino-genai", _make_openvino),
    "onnx-qint8": _Export("optimum", _quantize_onnx, base="onnx", depends_on=lambda _: _onnx_configuration()),
    "openvino-qint8": _Export(
        "openvino-genai",
        _quantize_openvino,
        base="openvino",
        depends_on=lambda source: "\n".join(_calibration_texts(source)),
    ),
    "ctranslate2-int8": _Export("optimum", _make_ctranslate2),
}


def _digest(source: ExportSource, export: _Export) -> str:
    """Return a hash of the checkpoint's weights and settings, of the task, and of the versions that export it."""
    checkpoint = source.checkpoint
    requirements = requirements_of(find_peer(export.peer).environment)
    digest = hashlib.sha256(_FORMAT + source.export_task.encode() + requirements + export.depends_on(source).encode())
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
