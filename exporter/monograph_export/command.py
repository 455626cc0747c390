"""`monograph export`."""

from __future__ import annotations

import argparse
import sys

from monograph.bundle.manifest import TASKS
from monograph.commands.quality import (
    describe_compression,
    describe_output,
    describe_reference,
    describe_verification,
    describe_vocabulary,
)
from monograph_export import export
from monograph_export.compression.limits import Int8ScoreLimits, ScoreLimits, SparseLimits, VectorLimits
from monograph_export.compression.options import PRECISIONS, TABLES

HELP = "turn a checkpoint of a Sentence Transformer, cross-encoder or sparse encoder into a bundle equal to torch"

_LIMITS = (
    (
        "min-mean-cosine",
        VectorLimits.mean_cosine,
        "bundle of compressed vectors with a lower mean cosine to the original's",
    ),
    ("min-worst-cosine", VectorLimits.worst_cosine, "bundle of compressed vectors with a text of a lower cosine"),
    (
        "min-neighbour-agreement",
        VectorLimits.neighbour_agreement,
        "bundle of compressed vectors with fewer texts that keep their nearest neighbour",
    ),
    (
        "min-rank-correlation",
        ScoreLimits.spearman,
        "compressed cross-encoder that sorts pairs less alike, by the rank correlation of their scores",
    ),
    (
        "min-active-overlap",
        SparseLimits.active_overlap,
        "compressed sparse encoder whose vectors share fewer of their active dimensions with the original's",
    ),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of the checkpoint, ORG/NAME[@REVISION] on a Hub, or a recipe in models/",
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to write; must not exist yet")
    parser.add_argument("--recipe", help="name of the recipe in models/ that the checkpoint is one of")
    parser.add_argument(
        "--from-onnx",
        metavar="FILE",
        help="the encoder as optimum's ONNX file, here or within SOURCE: append pooling and what follows it to that, "
        "without torch",
    )
    parser.add_argument("--task", choices=TASKS, help="default: told from the checkpoint")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the layers; default: fp32")
    parser.add_argument(
        "--table",
        choices=TABLES,
        help="of the token embeddings; default: int8 for more than 100,000 tokens and with --precision int8, else fp32",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="texts, one a line, that set the ranges of int8 layers; for a cross-encoder a query, a tab and a passage; "
        "default: built-in sentences of 37 languages",
    )
    parser.add_argument(
        "--reduce-range", action="store_true", help="7-bit weights, for CPUs with AVX2 and without VNNI"
    )
    parser.add_argument(
        "--keep-vocab",
        action="append",
        default=[],
        metavar="FILE",
        help="texts, one a line: keep the tokens that they need, and the characters of their scripts; may be repeated",
    )
    parser.add_argument(
        "--keep-scripts",
        action="extend",
        type=lambda codes: codes.split(","),
        default=[],
        metavar="CODES",
        help="keep the tokens of scripts, by ISO 15924 codes: Latn,Cyrl",
    )
    parser.add_argument(
        "--coverage",
        action="append",
        default=[],
        metavar="FILE",
        help="other texts, one a line: say how the tokens that are kept do for them; may be repeated",
    )
    for name, default, what in _LIMITS:
        parser.add_argument(
            f"--{name}", type=float, default=default, metavar="X", help=f"refuse a {what}; default: {default}"
        )
    parser.add_argument(
        "--max-score-move",
        type=float,
        metavar="X",
        help="refuse a compressed cross-encoder with a score that moves by more, as a part of the spread of all; "
        f"default: {Int8ScoreLimits.worst_difference} with --precision int8, else {ScoreLimits.worst_difference}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written and how near it is to torch."""
    if sys.stderr.isatty():
        work = "appending modules" if arguments.from_onnx else "tracing"
        print(f"exporting {arguments.source}: loading, {work}, verifying", file=sys.stderr)
    bundle = export(
        arguments.source,
        arguments.output,
        task=arguments.task,
        precision=arguments.precision,
        table=arguments.table,
        calibration=arguments.calibration,
        reduce_range=arguments.reduce_range,
        min_mean_cosine=arguments.min_mean_cosine,
        min_worst_cosine=arguments.min_worst_cosine,
        min_neighbour_agreement=arguments.min_neighbour_agreement,
        min_rank_correlation=arguments.min_rank_correlation,
        max_score_move=arguments.max_score_move,
        min_active_overlap=arguments.min_active_overlap,
        keep_vocab=arguments.keep_vocab,
        keep_scripts=arguments.keep_scripts,
        coverage=arguments.coverage,
        recipe=arguments.recipe,
        from_onnx=arguments.from_onnx,
    )
    print(f"{bundle.path}: {bundle.size_bytes / 1e6:,.1f} MB, {describe_output(bundle.manifest)}")
    if vocabulary := bundle.manifest.quality.get("vocabulary"):
        print(f"vocabulary: {describe_vocabulary(vocabulary)}")
    compression = bundle.manifest.quality.get("compression")
    for verdict in bundle.manifest.quality["verdicts"]:
        print(describe_verification(verdict, describe_reference(bundle.manifest.quality)))
    if compression is not None:
        print(f"compressed: {describe_compression(compression)}")
    return 0
