"""From an encoder's ONNX file and the rest of its checkpoint to a verified bundle, step by step, without torch."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from monograph.bundle import Bundle, open_bundle, write_probes
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import EMBEDDING, FORMAT_VERSION, Embedding, Graph, Manifest, Source
from monograph.errors import ExportError
from monograph.tokenization import TextTokenizer
from monograph.verification import FLOAT32_TOLERANCE
from monograph.version import __version__
from monograph_export.checkpoint.origin import check_shape, source_of, with_recipe
from monograph_export.checkpoint.rust_tokenizer import check_rows
from monograph_export.checkpoint.source import locate_with_encoder, recipe_of
from monograph_export.checkpoint.task import KINDS, task_of_folder
from monograph_export.from_onnx.encoder import Encoder, files_of, open_encoder, table_of
from monograph_export.from_onnx.graph import append_modules
from monograph_export.from_onnx.layout import Checkpoint, read_checkpoint
from monograph_export.from_onnx.reference import REFERENCE, FileRunner, check_modules, make_probes
from monograph_export.from_onnx.settings import read_settings
from monograph_export.from_onnx.tokenizer import read_tokenizer
from monograph_export.graph.store import store_graphs
from monograph_export.parity import check_engine, verifier_processes, verify_everywhere
from monograph_export.probe_texts import probe_texts
from monograph_export.recipes import Recipe
from monograph_export.writer import list_files, staged, write_manifest

logger = logging.getLogger(__name__)
# ONNX Runtime's CPU computes float16 at float32, and rounds the vectors of tokens only where they are an output.
_ROUNDING_OF_OUTPUT = {"fp16": 1e-3}
_PRODUCERS = ("onnxruntime", "onnx-ir", "numpy", "tokenizers")


def export_from_onnx(
    source: str | os.PathLike[str], target: Path, file: str | os.PathLike[str], *, task: str | None, recipe: str | None
) -> Bundle:
    """Do what ``monograph_export.export`` says of ``from_onnx``; ``target`` is an absolute path that may be written."""
    if task not in (None, "embedding"):
        raise ExportError(f"task {task!r} cannot be grafted; it is 'embedding'")
    check_engine()
    known = recipe_of(source, recipe)
    tolerance = FLOAT32_TOLERANCE if known is None else known.tolerance
    folder, encoder_file = locate_with_encoder(source, file)
    if (found := task_of_folder(folder, task)) != EMBEDDING:
        raise ExportError(f"{KINDS[found]} cannot be grafted: export the checkpoint itself, without --from-onnx")
    checkpoint, encoder = read_checkpoint(folder), open_encoder(encoder_file)
    with staged(target) as staging, verifier_processes() as others:
        manifest = _write_unverified(checkpoint, encoder, staging, known, tolerance)
        logger.info("verifying")
        manifest.quality.update(verify_everywhere(staging, tolerance, others, REFERENCE))
        write_manifest(staging, manifest)
    return open_bundle(target)


def _write_unverified(
    checkpoint: Checkpoint, encoder: Encoder, folder: Path, recipe: Recipe | None, tolerance: float
) -> Manifest:
    """Write everything into the staging folder, the manifest still without verdicts."""
    found = read_tokenizer(checkpoint.transformer, checkpoint.settings)
    tokenizer = found.store(folder)
    settings = read_settings(checkpoint.folder)
    embedding = Embedding(checkpoint.width, checkpoint.normalized, settings.similarity, (), settings.truncate_dim)
    origin = _source(checkpoint.folder, encoder)
    if recipe is not None:
        check_shape(recipe, embedding, tokenizer)
        origin, embedding = with_recipe(recipe, origin, embedding)
    table = table_of(encoder)
    if table is not None:
        check_rows(tokenizer.vocabulary_size, table.shape.numpy()[0])
    logger.info("computing the reference")
    texts = probe_texts(found.tokenizer, tokenizer.max_length)
    runner = FileRunner(TextTokenizer(folder / tokenizer.file), tokenizer.pad_id)
    probes = make_probes(encoder, checkpoint, runner, texts)
    logger.info("appending the modules")
    graphs = _store(encoder, checkpoint, folder)
    for graph in graphs:
        if graph.precision != "fp32":
            rounding = _ROUNDING_OF_OUTPUT.get(graph.precision, 0)
            check_modules(folder / graph.file, runner, probes, max(tolerance, rounding))
    write_probes(folder, [probes])
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        task="embedding",
        source=origin,
        graphs=graphs,
        tokenizer=tokenizer,
        embedding=embedding,
        prompts=settings.prompts,
        default_prompt_name=settings.default_prompt_name,
        quality=_quality(encoder),
        producer={"monograph": __version__, **{name: importlib.metadata.version(name) for name in _PRODUCERS}},
        files=list_files(folder),
    )
    if recipe is not None:
        manifest.prompts.update({name: text for name, text in recipe.prompts.items() if not manifest.prompts.get(name)})
    write_manifest(folder, manifest)
    return manifest


def _store(encoder: Encoder, checkpoint: Checkpoint, folder: Path) -> tuple[Graph, ...]:
    # Asked before the graph is changed.
    precision, max_batch_size = encoder.precision, encoder.max_batch_size
    parts = append_modules(encoder, checkpoint)
    # Of float16 there may be one for GPUs too.
    graphs = store_graphs({None: encoder.model}, folder, precision=precision, parts={None: parts})
    return tuple(replace(graph, max_batch_size=max_batch_size) for graph in graphs)


def _source(folder: Path, encoder: Encoder) -> Source:
    """Describe the checkpoint; to the hashes of its weights come those of the encoder's files."""
    origin = source_of(folder)
    hashes = {_name_in(folder, file): sha256_of(file) for file in files_of(encoder.file)}
    return replace(origin, sha256=origin.sha256 | hashes)


def _name_in(folder: Path, file: Path) -> str:
    """Return a file's path within the checkpoint, or its name where it lies elsewhere."""
    absolute = Path(os.path.abspath(file))  # noqa: PTH100 - not resolved: a Hub's cache is of links
    root = Path(os.path.abspath(folder))  # noqa: PTH100
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.name


def _quality(encoder: Encoder) -> dict[str, Any]:
    runtime = importlib.metadata.version("onnxruntime")
    return {
        "reference": (
            f"ONNX Runtime {runtime} running the encoder's file {encoder.file.name}, each text alone, then "
            "pooling and what follows it in NumPy at float64"
        ),
        "verdicts": [],
        "graft": {"encoder": encoder.file.name},
    }
