"""From a checkpoint to a verified bundle, step by step."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoder, SparseEncoder

from monograph.bundle import Bundle, Probes, open_bundle, write_probes
from monograph.bundle.manifest import (
    EMBEDDING,
    FORMAT_VERSION,
    RERANK,
    SPARSE,
    Embedding,
    Graph,
    Manifest,
    Routing,
    Source,
    Sparse,
    TokenizerSpec,
)
from monograph.errors import ExportError
from monograph.verification import FLOAT32_TOLERANCE
from monograph_export.agreement import measured_agreement
from monograph_export.checkpoint.facts import producers, sizes_by_part, source_of_loaded, vectors_of
from monograph_export.checkpoint.load import copy_loaded, load_folder
from monograph_export.checkpoint.loaded_tokenizer import check_table, check_tokenizer, store_tokenizer
from monograph_export.checkpoint.modules import DENSE as DENSE_MODELS
from monograph_export.checkpoint.modules import SPARSE as SPARSE_MODELS
from monograph_export.checkpoint.origin import check_shape, source_of, with_recipe
from monograph_export.checkpoint.routes import VECTOR_MODELS, RoutedModel, VectorModel
from monograph_export.checkpoint.rust_tokenizer import TOKENIZER_FILE
from monograph_export.checkpoint.token_table import has_transformer
from monograph_export.compression.compress import Compressed, compress
from monograph_export.compression.options import Compression
from monograph_export.compression.quality_metric import SparseQualityMetric, VectorQualityMetric
from monograph_export.compression.texts import (
    CalibrationTexts,
    built_in_texts,
    calibration_of,
    held_out_texts,
    texts_of,
)
from monograph_export.graph.passes import apply_passes
from monograph_export.graph.store import numbered, store_graphs
from monograph_export.graph.trace import trace
from monograph_export.output_names import OUTPUT_NAME
from monograph_export.parity import verifier_processes, verify_everywhere
from monograph_export.probes import make_probes
from monograph_export.recipes import Recipe
from monograph_export.reranking.export import run_pair_export
from monograph_export.vocabulary.options import Trimming
from monograph_export.vocabulary.trim import Trimmed, trim
from monograph_export.writer import list_files, staged, write_manifest

logger = logging.getLogger(__name__)


def run_export(
    source: Path | VectorModel | CrossEncoder,
    target: Path,
    *,
    task: str,
    compression: Compression,
    trimming: Trimming,
    recipe: Recipe | None,
) -> Bundle:
    """Export a checkpoint's folder or a loaded model, of a task, as ``monograph_export.export`` says.

    ``target`` is an absolute path that may be written.
    """
    if isinstance(source, CrossEncoder) or (isinstance(source, Path) and task == RERANK):
        return run_pair_export(source, target, compression)
    with staged(target) as folder, verifier_processes() as others:
        manifest, compressed = _write_unverified(source, task, folder, recipe, compression, trimming)
        # What was loaded is free again here; the verification needs its memory for the engines.
        gc.collect()
        logger.info("verifying")
        tolerance = FLOAT32_TOLERANCE if recipe is None else recipe.tolerance
        manifest.quality.update(verify_everywhere(folder, tolerance, others))
        if compressed is not None:
            manifest.quality["compression"] = compressed.record | {"agreement": measured_agreement(folder, compressed)}
        write_manifest(folder, manifest)
    return open_bundle(target)


def task_of_loaded(model: object) -> str:
    """Return the task of a loaded model.

    Raises:
        ExportError: it is no model of sentence-transformers.

    """
    if isinstance(model, CrossEncoder):
        return RERANK
    if not isinstance(model, VECTOR_MODELS):
        raise ExportError(
            f"SOURCE must be a str, a path or a loaded model of sentence-transformers, got {type(model).__name__}"
        )
    return SPARSE if isinstance(model, SparseEncoder) else EMBEDDING


def _write_unverified(
    source: Path | VectorModel,
    task: str,
    folder: Path,
    recipe: Recipe | None,
    compression: Compression,
    trimming: Trimming,
) -> tuple[Manifest, Compressed[str] | None]:
    """Write everything into the staging folder, the manifest still without verdicts."""
    logger.info("loading")
    if isinstance(source, Path):
        routed, origin = load_folder(source, SPARSE_MODELS if task == SPARSE else DENSE_MODELS), source_of(source)
    else:
        routed, origin = copy_loaded(source), source_of_loaded(source)
    for model in routed.routes.values():
        check_table(model)
    main = routed.main
    _check_asked(routed, compression, trimming)
    trimmed = trim(main, trimming, _prompts(main, recipe))
    tokenizers = _store_tokenizers(routed, folder)
    vectors = vectors_of(routed)
    if recipe is not None and isinstance(vectors, Embedding):
        check_shape(recipe, vectors, next(iter(tokenizers.values())))
        origin, vectors = with_recipe(recipe, origin, vectors)
    compressed = None
    if len(routed.routes) == 1:
        compressed = compress(main, compression, _texts(compression, trimming, trimmed), _judge(vectors, compression))
    logger.info("computing the reference")
    probes = _make_probes(routed, tokenizers, folder)
    logger.info("tracing")
    graphs = store_graphs(
        {route: apply_passes(trace(model)) for route, model in routed.routes.items()},
        folder,
        precision=compression.precision,
        parts={route: sizes_by_part(model) for route, model in routed.routes.items()},
    )
    write_probes(folder, probes)
    _check_dimensions(graphs, probes, vectors)
    manifest = _manifest(routed, origin, graphs, tokenizers, vectors, compressed, folder)
    if trimmed is not None:
        manifest.quality["vocabulary"] = trimmed.record
    if recipe is not None:
        manifest.prompts.update({name: text for name, text in recipe.prompts.items() if not main.prompts.get(name)})
    write_manifest(folder, manifest)
    return manifest, compressed


def _judge(vectors: Embedding | Sparse, compression: Compression) -> VectorQualityMetric:
    if isinstance(vectors, Embedding):
        return VectorQualityMetric(compression.vector_limits)
    return SparseQualityMetric(compression.sparse_limits)


def _prompts(model: VectorModel, recipe: Recipe | None) -> list[str]:
    """Return the different prompts that the bundle will have."""
    known = {} if recipe is None else recipe.prompts
    return list(dict.fromkeys(prompt for prompt in (*model.prompts.values(), *known.values()) if prompt))


def _texts(compression: Compression, trimming: Trimming, trimmed: Trimmed | None) -> CalibrationTexts:
    """Return texts to calibrate with and to judge by, of the user's or built-in, that the kept tokens can write."""
    corpus = trimming.corpus
    if compression.calibration is not None:
        texts = texts_of(compression.calibration)
    elif corpus is None:
        texts = built_in_texts()
    else:
        choose = calibration_of if compression.precision == "int8" else held_out_texts
        texts = choose(corpus.texts, corpus.name)
    return texts if trimmed is None else texts.only(trimmed.vocabularies.usable)


def _check_asked(routed: RoutedModel, compression: Compression, trimming: Trimming) -> None:
    """Refuse options that a kind of model does not have, before minutes are spent on it."""
    asked = [
        *(["--keep-vocab or --keep-scripts"] if trimming.wanted else []),
        *([f"--precision {compression.precision}"] if compression.precision != "fp32" else []),
    ]
    if len(routed.routes) > 1:
        asked += ["--table int8"] if compression.table == "int8" else []
        kind = "a model with a Router"
    elif not has_transformer(routed.main):
        kind = f"a {type(routed.main[0]).__name__}, which has no layers,"
    else:
        return
    if asked:
        raise ExportError(f"{kind} is exported as it is: leave out {', '.join(asked)}")


def _store_tokenizers(routed: RoutedModel, folder: Path) -> dict[str | None, TokenizerSpec]:
    """Write the tokenizer of each route; routes with the same have one file."""
    stored: dict[str | None, TokenizerSpec] = {}
    for number, (route, model) in enumerate(routed.routes.items()):
        found = store_tokenizer(model, folder / numbered(TOKENIZER_FILE, number))
        content = (folder / found.file).read_bytes()
        same = (other for other in stored.values() if (folder / other.file).read_bytes() == content)
        if other := next(same, None):
            (folder / found.file).unlink()
            found = replace(found, file=other.file)
        stored[route] = found
    return stored


def _make_probes(routed: RoutedModel, tokenizers: Mapping[str | None, TokenizerSpec], folder: Path) -> list[Probes]:
    """Return the probes of each route, of which the written tokenizers give the model's own tokens."""
    sets: list[Probes] = []
    for route, model in routed.routes.items():
        found = make_probes(model, route)
        check_tokenizer(model, folder / tokenizers[route].file, found[0].texts)
        sets += found
    return sets


def _check_dimensions(graphs: Sequence[Graph], probes: Sequence[Probes], vectors: Embedding | Sparse) -> None:
    traced = {graph.outputs[OUTPUT_NAME].shape[-1] for graph in graphs}
    reference = {int(found.vectors.shape[1]) for found in probes}
    if not traced == reference == {vectors.dimension}:
        raise ExportError(f"the graph gives {traced} dimensions, torch {reference}, the modules {vectors.dimension}")


def _manifest(
    routed: RoutedModel,
    origin: Source,
    graphs: tuple[Graph, ...],
    tokenizers: dict[str | None, TokenizerSpec],
    vectors: Embedding | Sparse,
    compressed: Compressed[str] | None,
    folder: Path,
) -> Manifest:
    rounding = "" if compressed is None else ", with the rounding of the compression"
    quality: dict[str, Any] = {
        "reference": f"sentence-transformers in torch, float32, each text alone{rounding}",
        "verdicts": [],
    }
    main = routed.main
    named = {route: tokenizer for route, tokenizer in tokenizers.items() if route is not None}
    return Manifest(
        format_version=FORMAT_VERSION,
        task=EMBEDDING if isinstance(vectors, Embedding) else SPARSE,
        source=origin,
        graphs=graphs,
        tokenizer=next(iter(tokenizers.values())),
        embedding=vectors if isinstance(vectors, Embedding) else None,
        prompts=dict(main.prompts),
        default_prompt_name=main.default_prompt_name,
        quality=quality,
        producer=producers(),
        files=list_files(folder),
        routing=Routing(named, routed.tasks, routed.default) if named else None,
        sparse=vectors if isinstance(vectors, Sparse) else None,
    )
