"""Write a model repository: a bundle at its top, ONNX files in ``onnx/``, and the settings that others read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.manifest import GRAPH_SUFFIX, POOLING_MASK
from monograph.bundle.measurements import write_measurements
from monograph.errors import ExportError
from monograph.progress import BYTES, Progress
from monograph.tasks.embedding import EMBEDDING
from monograph_export.checkpoint.checkpoint import SETTINGS_FILE, Checkpoint, read_object, read_optional_object
from monograph_export.publishing.card import Contents
from monograph_export.publishing.encoder import Encoder
from monograph_export.publishing.graphs import PublishedGraph, write_graph
from monograph_export.publishing.layout import FOLDER, GRAPH_FILES
from monograph_export.publishing.modules import read_modules
from monograph_export.publishing.settings import write_settings
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from monograph_export.writer import write_manifest

_CONFIG = "config.json"
# The bundle's tokenizer.json is the tokenizer of all loaders, and the bundle's may have a smaller vocabulary.
_COPIED = (_CONFIG, "tokenizer_config.json", "special_tokens_map.json")
_DEFAULT = GRAPH_FILES["fp32"]


def check_bundles(bundles: Sequence[Bundle], checkpoint: Checkpoint) -> None:
    """Refuse bundles that cannot be published together, or that are not of the checkpoint.

    Raises:
        ExportError: with every problem.

    """
    problems = [f"{bundle.path}: {problem}" for bundle in bundles for problem in _problems(bundle, checkpoint)]
    if len({bundle.manifest.files[bundle.manifest.tokenizer.file].sha256 for bundle in bundles}) > 1:
        problems.append("the bundles have different tokenizers: publish each by itself")
    precisions = [precision for bundle in bundles for precision in bundle.manifest.precisions]
    if double := sorted({one for one in precisions if precisions.count(one) > 1}):
        problems.append(f"more than one of the bundles has the precision {', '.join(double)}: leave out one of them")
    if "fp32" not in precisions:
        problems.append(
            f"none of the bundles is of the precision fp32, which {FOLDER}/{_DEFAULT} is made of: add one that "
            "`monograph export` wrote with --precision fp32"
        )
    if problems:
        raise ExportError("; ".join(problems))


def _problems(bundle: Bundle, checkpoint: Checkpoint) -> list[str]:
    manifest, problems = bundle.manifest, list[str]()
    if manifest.task != EMBEDDING.name:
        return [f"its task is {manifest.task}; only embedding models are published"]
    if manifest.routing is not None:
        problems.append("it has routes, which no other software loads")
    if any(POOLING_MASK in graph.inputs for graph in manifest.graphs):
        problems.append(f"its graph has the input {POOLING_MASK}, which no other software gives")
    if any(graph.max_batch_size is not None for graph in manifest.graphs):
        problems.append("its vectors depend on the batch: publish the ONNX file that it was made from")
    ours, theirs = manifest.source.sha256, checkpoint.source.sha256
    if ours and theirs and ours != theirs:
        problems.append(f"{checkpoint.folder} is not the checkpoint that it was exported from: its weights differ")
    return problems


def write_repository(bundles: Sequence[Bundle], checkpoint: Checkpoint, folder: Path, progress: Progress) -> Contents:
    """Write everything but the model card into an empty folder, and verify it.

    The first bundle is at the top, so that the folder is that bundle for its readers.

    Raises:
        ExportError: the checkpoint has modules or settings that other software does not load.
        ParityError: what was written does not compute what the bundle does.

    """
    modules = read_modules(checkpoint.folder)
    write_settings(checkpoint.folder, modules, folder, _COPIED)
    with progress.step("Loading the model"):
        encoder = Encoder(EMBEDDING_EXPORT.load(checkpoint).main, modules.token_width)
    _copy_bundle(bundles[0], folder, progress)
    onnx = folder / FOLDER
    onnx.mkdir()
    restricted = [one for bundle in bundles for one in bundle.by_precision]
    graphs = tuple(write_graph(one, encoder, onnx, progress) for one in restricted)
    _state(bundles[0], graphs, folder)
    open_bundle(folder, "full", progress)
    return Contents(tuple(bundles), checkpoint, modules, graphs)


def _copy_bundle(bundle: Bundle, folder: Path, progress: Progress) -> None:
    """Copy a bundle, its graphs under other names: sentence-transformers prefers a ``model.onnx`` at the top."""
    manifest = bundle.manifest
    names = {file: _name_in_repository(file) if file.endswith(GRAPH_SUFFIX) else file for file in manifest.files}
    with progress.step(f"Copying {bundle.path.name}", bundle.size_bytes, BYTES) as step:
        for file, name in names.items():
            shutil.copyfile(bundle.path / file, folder / name)
            step.advance(manifest.files[file].bytes)
    graphs = tuple(replace(graph, file=names[graph.file]) for graph in manifest.graphs)
    renamed = replace(manifest, graphs=graphs, files={names[file]: entry for file, entry in manifest.files.items()})
    write_measurements(folder, renamed, write_manifest(folder, renamed))


def _name_in_repository(graph: str) -> str:
    """Return ``monograph.onnx`` for ``model.onnx``, ``monograph.int8.onnx`` for ``model.int8.onnx``."""
    return f"monograph.{graph.partition('.')[2]}"


def _state(bundle: Bundle, graphs: Sequence[PublishedGraph], folder: Path) -> None:
    """State in the settings what the bundle and its files add to those of the checkpoint."""
    manifest = bundle.manifest
    external = {graph.file: True for graph in graphs if graph.external_data}
    for_javascript = {"use_external_data_format": external}
    _change(
        folder / _CONFIG,
        lambda config: (
            config
            | {"transformers.js_config": config.get("transformers.js_config", {}) | for_javascript}
            | ({} if manifest.quality.vocabulary is None else {"vocab_size": manifest.tokenizer.vocabulary_size})
        ),
    )
    _change(
        folder / SETTINGS_FILE,
        lambda settings: (
            settings
            | {
                "prompts": dict(manifest.prompts),
                "default_prompt_name": manifest.default_prompt_name,
                "similarity_fn_name": manifest.section.similarity,
            }
        ),
    )


def _change(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    settings = read_object(path) if path.name == _CONFIG else read_optional_object(path)
    path.write_text(json.dumps(change(settings), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
