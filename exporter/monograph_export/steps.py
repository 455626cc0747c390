"""The steps of every export, in order: from a checkpoint to a verified bundle."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, Probes, open_bundle, write_probes
from monograph.bundle.manifest import FORMAT_VERSION, PROBES_FILE, Graph, Manifest
from monograph.bundle.measurements import write_measurements
from monograph.errors import ExportError
from monograph.inference.pipeline import Pipeline
from monograph.inference.verifier_process import VerifierProcess
from monograph.inputs import Input
from monograph.progress import Progress, Step
from monograph.quality import FurtherPrecision, Quality
from monograph_export.compression.gate import Gate, HeldOutOutputs
from monograph_export.graph.store import BuiltGraph, store_graphs
from monograph_export.model import ExportRequest, LoadedModel, Tokenizers
from monograph_export.parity import REQUIRED_DEVICE, verifier_processes, verify_everywhere
from monograph_export.recipes import apply_recipe
from monograph_export.verifier import opened_routes
from monograph_export.writer import list_files, staged, write_manifest

if TYPE_CHECKING:
    from monograph_export.compression.compress import Compressed


def run_export(
    load: Callable[[ExportRequest], LoadedModel], requests: Sequence[ExportRequest], progress: Progress
) -> Bundle:
    """Load a model and make a bundle of it: written, verified, and its compression measured.

    There is a request for each precision of the bundle; they differ in nothing else. The model is loaded for each, for
    compression changes it. Each step is reported to ``progress``.

    Raises:
        ExportError: as ``monograph_export.export``.

    """
    target = requests[0].target
    with staged(target, progress) as folder, verifier_processes() as others:
        manifest, digest, compressed = _write_unverified(load, requests, folder, progress)
        # What was loaded is free again here; the verification needs its memory for the engines.
        gc.collect()
        first, *further = zip(requests, open_bundle(folder).by_precision, compressed, strict=True)
        measured = [_measure(*first, others, progress)]
        for one in further:
            # A process verifies once.
            with verifier_processes() as others_again:
                measured.append(_measure(*one, others_again, progress))
        write_measurements(folder, _with_qualities(manifest, measured), digest)
    return open_bundle(target)


def _measure(
    request: ExportRequest,
    bundle: Bundle,
    compressed: Compressed[Any] | None,
    others: Sequence[VerifierProcess],
    progress: Progress,
) -> Quality:
    """Verify the staged bundle of a precision, measure its compression, and return its quality with both."""
    quality = bundle.manifest.quality
    with _naming_precision(request):
        verifications, not_run = verify_everywhere(bundle, request.tolerance, others, quality.reference_name, progress)
        compression = None
        if compressed is not None:
            gate, noun = compressed.gate, request.task.task.inputs
            with progress.step("Measuring the loss of the bundle", gate.computed, noun) as step:
                compression = compressed.report(_outputs_of_bundle(bundle, gate, step))
    return replace(quality, verifications=verifications, not_run=not_run, compression=compression)


def _with_qualities(manifest: Manifest, qualities: Sequence[Quality]) -> Manifest:
    """Return a manifest with the quality of each of its precisions."""
    first, *others = qualities
    further = {
        name: replace(entry, quality=quality)
        for (name, entry), quality in zip(manifest.further_precisions.items(), others, strict=True)
    }
    return replace(manifest, quality=first, further_precisions=further)


@contextmanager
def _naming_precision(request: ExportRequest) -> Iterator[None]:
    """Let errors name the precision, where there are several."""
    try:
        yield
    except ExportError as error:
        if len(request.precisions) == 1:
            raise
        raise type(error)(f"at precision {request.compression.precision}: {error}") from error


def _write_unverified(
    load: Callable[[ExportRequest], LoadedModel],
    requests: Sequence[ExportRequest],
    folder: Path,
    progress: Progress,
) -> tuple[Manifest, str, list[Compressed[Any] | None]]:
    """Write a bundle but for its measurements; return the manifest, the hash of its file, and the compressions."""
    built = []
    for request in requests:
        # What the model before no longer has, its original weights among it, is freed before this one is loaded.
        gc.collect()
        built.append(_build(_load(load, request, progress), request, folder, progress))
    last = built[-1]
    with last.model.arithmetic():
        graphs = store_graphs([one.graphs for one in built], folder, progress)
        for one in built:
            one.model.release_weights()
        # A bundle of several precisions is of a model whose graphs need no such check.
        last.model.check_graphs(folder, last.tokenizers, graphs, last.probes, requests[-1].tolerance, progress)
    further = {}
    write_probes(folder, built[0].probes)
    for one, request in zip(built[1:], requests[1:], strict=True):
        precision = request.compression.precision
        file = _probes_file(precision)
        write_probes(folder, one.probes, file)
        further[precision] = FurtherPrecision(file, one.manifest.quality)
    manifest = replace(built[0].manifest, graphs=graphs, files=list_files(folder, progress), further_precisions=further)
    _check_widths(graphs, [probes for one in built for probes in one.probes], manifest)
    return manifest, write_manifest(folder, manifest), [one.compressed for one in built]


def _load(load: Callable[[ExportRequest], LoadedModel], request: ExportRequest, progress: Progress) -> LoadedModel:
    with progress.step("Loading the model"):
        return load(request)


def _probes_file(precision: str) -> str:
    """Return the name of the probes of a precision after the first: ``probes.int8.json``."""
    stem, suffix = PROBES_FILE.rsplit(".", 1)
    return f"{stem}.{precision}.{suffix}"


@dataclass(frozen=True)
class _Built:
    """What a model becomes at a precision: the manifest without graphs and files, and what is still to be written."""

    model: LoadedModel
    manifest: Manifest
    tokenizers: Tokenizers
    compressed: Compressed[Any] | None
    probes: list[Probes]
    graphs: Mapping[str | None, BuiltGraph]


def _build(model: LoadedModel, request: ExportRequest, folder: Path, progress: Progress) -> _Built:
    """Write the tokenizers of a model, and build its graphs at a precision."""
    with model.arithmetic(), _naming_precision(request):
        recipe = request.recipe
        pruned = model.prune_vocabulary(request, progress)
        tokenizers = model.store_tokenizers(folder)
        tokenizer = next(iter(tokenizers.values()))
        source, section, prompts = model.source, model.describe_outputs(), dict(model.prompts)
        if recipe is not None:
            source, section, prompts = apply_recipe(recipe, source, section, tokenizer, prompts)
        compressed = model.compress(request, pruned, progress)
        probes = model.make_probes(folder, tokenizers, progress)
        graphs = model.build_graphs(request.compression.precision, progress)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            task=request.task.name,
            source=source,
            graphs=(),
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
            files={},
            routing=model.routing(tokenizers),
        )
        return _Built(model, manifest, tokenizers, compressed, probes, graphs)


def _check_widths(graphs: Sequence[Graph], probes: Sequence[Probes], manifest: Manifest) -> None:
    widths = {next(iter(graph.outputs.values())).shape[-1] for graph in graphs}
    reference = {one.width for one in probes if one.output is None}
    if not widths == reference == {manifest.output_width}:
        raise ExportError(
            f"the graph gives {widths} columns, the reference has {reference}, and the model states "
            f"{manifest.output_width}"
        )


def _outputs_of_bundle(bundle: Bundle, gate: Gate[Any], step: Step) -> HeldOutOutputs:
    """Return what a staged bundle gives for the gate's inputs on ONNX Runtime, as the runtime computes it."""
    with opened_routes(bundle, REQUIRED_DEVICE, "float32") as routes:
        route = next(name for name, pipeline in routes.pipelines.items() if pipeline is routes.main)
        additional = {name: routes.additional_pipelines[name][route] for name in gate.additional_outputs}
        return HeldOutOutputs(
            _outputs_of(routes.main, gate.inputs, step),
            {name: _outputs_of(pipeline, gate.few, step) for name, pipeline in additional.items()},
        )


def _outputs_of(pipeline: Pipeline, inputs: Sequence[Input], step: Step) -> NDArray[Any]:
    def counted() -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        for rows, part in pipeline.outputs(inputs):
            yield rows, part
            step.advance(len(rows))

    return pipeline.runner.gather(counted(), len(inputs))
