"""From a cross-encoder to a verified bundle, step by step."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from pathlib import Path

from sentence_transformers import CrossEncoder

from monograph.bundle import Bundle, open_bundle, write_probes
from monograph.bundle.manifest import FORMAT_VERSION, Manifest
from monograph.errors import ExportError
from monograph.inputs import Pair
from monograph.verification import FLOAT32_TOLERANCE
from monograph_export.agreement import measured_agreement
from monograph_export.checkpoint.facts import producers, sizes_by_part, source_of_loaded
from monograph_export.checkpoint.loaded_tokenizer import check_table, check_tokenizer, store_tokenizer
from monograph_export.checkpoint.origin import source_of
from monograph_export.checkpoint.rust_tokenizer import TOKENIZER_FILE
from monograph_export.compression.compress import Compressed, compress
from monograph_export.compression.options import Compression
from monograph_export.compression.texts import Calibration
from monograph_export.graph.passes import apply_passes
from monograph_export.graph.store import store_graphs
from monograph_export.graph.trace import trace_pairs
from monograph_export.output_names import LOGITS_NAME
from monograph_export.parity import verifier_processes, verify_everywhere
from monograph_export.reranking.load import copy_cross_encoder, load_cross_encoder, rerank_of
from monograph_export.reranking.pairs import built_in_pairs, pairs_of
from monograph_export.reranking.probes import make_pair_probes
from monograph_export.reranking.quality_metric import ScoreQualityMetric
from monograph_export.writer import list_files, staged, write_manifest

logger = logging.getLogger(__name__)


def run_pair_export(source: Path | CrossEncoder, target: Path, compression: Compression) -> Bundle:
    """Export a checkpoint's folder, or a loaded model, to ``target``, an absolute path that may be written.

    Without int8 layers the table is int8 only where that is asked for, however large the vocabulary.

    Raises:
        ExportError: as ``monograph_export.export``.

    """
    if compression.table is None and compression.precision != "int8":
        compression = replace(compression, table="fp32")
    # Before anything is loaded: a line that is no pair is found at once.
    pairs = built_in_pairs() if compression.calibration is None else pairs_of(compression.calibration)
    with staged(target) as folder, verifier_processes() as others:
        manifest, compressed = _write_unverified(source, folder, compression, pairs)
        # What was loaded is free again here; the verification needs its memory for the engines.
        gc.collect()
        logger.info("verifying")
        manifest.quality.update(verify_everywhere(folder, FLOAT32_TOLERANCE, others))
        if compressed is not None:
            manifest.quality["compression"] = compressed.record | {"agreement": measured_agreement(folder, compressed)}
        write_manifest(folder, manifest)
    return open_bundle(target)


def _write_unverified(
    source: Path | CrossEncoder, folder: Path, compression: Compression, pairs: Calibration[Pair]
) -> tuple[Manifest, Compressed[Pair] | None]:
    """Write everything into the staging folder, the manifest still without verdicts."""
    logger.info("loading")
    if isinstance(source, CrossEncoder):
        model, origin = copy_cross_encoder(source), source_of_loaded(source)
    else:
        model, origin = load_cross_encoder(source), source_of(source)
    check_table(model)
    tokenizer = store_tokenizer(model, folder / TOKENIZER_FILE)
    rerank = rerank_of(model)
    compressed = compress(model, compression, pairs, ScoreQualityMetric(compression.score_limits))
    logger.info("computing the reference")
    probes = make_pair_probes(model)
    check_tokenizer(model, folder / TOKENIZER_FILE, probes.texts)
    logger.info("tracing")
    graphs = store_graphs(
        {None: apply_passes(trace_pairs(model))},
        folder,
        precision=compression.precision,
        parts={None: sizes_by_part(model)},
    )
    write_probes(folder, [probes])
    traced, reference = graphs[0].outputs[LOGITS_NAME].shape[-1], probes.vectors.shape[1]
    if not traced == reference == rerank.num_labels:
        raise ExportError(f"the graph gives {traced} logits, torch {reference}, the config says {rerank.num_labels}")
    rounding = "" if compressed is None else ", with the rounding of the compression"
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        task="rerank",
        source=origin,
        graphs=graphs,
        tokenizer=tokenizer,
        embedding=None,
        prompts=dict(model.prompts),
        default_prompt_name=model.default_prompt_name,
        quality={
            "reference": f"sentence-transformers in torch, float32, logits of each pair alone{rounding}",
            "verdicts": [],
        },
        producer=producers(),
        files=list_files(folder),
        rerank=rerank,
    )
    write_manifest(folder, manifest)
    return manifest, compressed
