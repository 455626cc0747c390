"""The steps of every export, in order: from a checkpoint to a verified bundle."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, Probes, open_bundle, write_probes
from monograph.bundle.manifest import FORMAT_VERSION, Graph, Manifest
from monograph.bundle.measurements import write_measurements
from monograph.errors import ExportError
from monograph.inputs import Input
from monograph.progress import Progress, Step
from monograph.quality import Quality
from monograph_export.graph.store import store_graphs
from monograph_export.model import ExportRequest, LoadedModel
from monograph_export.parity import REQUIRED_DEVICE, verifier_processes, verify_everywhere
from monograph_export.recipes import apply_recipe
from monograph_export.verifier import staged_routes
from monograph_export.writer import list_files, staged, write_manifest

if TYPE_CHECKING:
    from monograph_export.compression.compress import Compressed


def run_export(load: Callable[[ExportRequest], LoadedModel], request: ExportRequest, progress: Progress) -> Bundle:
    """Load a model and make a bundle of it: written, verified, and its compression measured.

    Each step is reported to ``progress``.

    Raises:
        ExportError: as ``monograph_export.export``.

    """
    with staged(request.target, progress) as folder, verifier_processes() as others:
        manifest, digest, compressed = _write_unverified(load, request, folder, progress)
        # What was loaded is free again here; the verification needs its memory for the engines.
        gc.collect()
        reference = manifest.quality.reference_name
        verifications, not_run = verify_everywhere(folder, request.tolerance, others, reference, progress)
        compression = None
        if compressed is not None:
            with progress.step(
                "Measuring the loss of the bundle", len(compressed.inputs), request.task.task.inputs
            ) as step:
                compression = compressed.report(_outputs_of_bundle(folder, compressed.inputs, step))
        quality = replace(manifest.quality, verifications=verifications, not_run=not_run, compression=compression)
        write_measurements(folder, quality.measurements(digest))
    return open_bundle(request.target)


def _write_unverified(
    load: Callable[[ExportRequest], LoadedModel], request: ExportRequest, folder: Path, progress: Progress
) -> tuple[Manifest, str, Compressed[Any] | None]:
    """Write a whole bundle but for its measurements; return the manifest, the hash of its file, and the compression."""
    with progress.step("Loading the model"):
        model = load(request)
    with model.arithmetic():
        manifest, compressed = _write_files(model, request, folder, progress)
    return manifest, write_manifest(folder, manifest), compressed


def _write_files(
    model: LoadedModel, request: ExportRequest, folder: Path, progress: Progress
) -> tuple[Manifest, Compressed[Any] | None]:
    """Write every file that the manifest lists; return the manifest and the compression."""
    recipe = request.recipe
    pruned = model.prune_vocabulary(request, progress)
    tokenizers = model.store_tokenizers(folder)
    tokenizer = next(iter(tokenizers.values()))
    source, section, prompts = model.source, model.describe_outputs(), dict(model.prompts)
    if recipe is not None:
        source, section, prompts = apply_recipe(recipe, source, section, tokenizer, prompts)
    compressed = model.compress(request, pruned, progress)
    probes = model.make_probes(folder, tokenizers, progress)
    graphs = store_graphs(model.build_graphs(request.compression.precision, progress), folder, progress)
    model.release_weights()
    model.check_graphs(folder, tokenizers, graphs, probes, request.tolerance, progress)
    write_probes(folder, probes)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        task=request.task.name,
        source=source,
        graphs=graphs,
        tokenizer=tokenizer,
        section=section,
        prompts=prompts,
        default_prompt_name=model.default_prompt_name,
        quality=Quality(
            reference=model.describe_reference(compressed),
            verifications=(),
            compression=None if compressed is None else compressed.decided,
            vocabulary=None if pruned is None else pruned.report,
            encoder_file=model.encoder_file,
        ),
        producer=model.producer,
        files=list_files(folder, progress),
        routing=model.routing(tokenizers),
    )
    _check_widths(graphs, probes, manifest)
    return manifest, compressed


def _check_widths(graphs: Sequence[Graph], probes: Sequence[Probes], manifest: Manifest) -> None:
    widths = {shape.shape[-1] for graph in graphs for shape in graph.outputs.values()}
    reference = {int(one.vectors.shape[1]) for one in probes}
    if not widths == reference == {manifest.output_width}:
        raise ExportError(
            f"the graph gives {widths} columns, the reference has {reference}, and the model states "
            f"{manifest.output_width}"
        )


def _outputs_of_bundle(folder: Path, inputs: Sequence[Input], step: Step) -> NDArray[np.float32]:
    """Return what a staged bundle gives for inputs on ONNX Runtime, float32 [n, width]."""
    with staged_routes(folder, REQUIRED_DEVICE, "float32") as routes:
        outputs = np.empty((len(inputs), routes.main.runner.output_width), dtype=np.float32)
        for rows, part in routes.main.outputs(inputs):
            outputs[rows] = part
            step.advance(len(rows))
        return outputs
