"""`monograph export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.commands.reporting import add_quiet, reported
from monograph.engines import level_of
from monograph.errors import ExportError, printable
from monograph.progress import Progress
from monograph_export import compare_bundles, export
from monograph_export.compression.options import (
    LIMITS,
    PRECISIONS,
    TABLES,
    split_precisions,
)
from monograph_export.tasks import task_names

HELP = (
    "turn a checkpoint of a Sentence Transformer, cross-encoder, sparse or multi-vector encoder into a bundle equal to "
    "torch"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of the checkpoint, ORG/NAME[@REVISION] on a Hub, or a recipe in models/",
    )
    parser.add_argument("output", metavar="OUTPUT", nargs="?", help="folder to write; must be empty or not exist")
    parser.add_argument(
        "--reproduce",
        metavar="BUNDLE",
        help="write nothing: export again and compare every file with those of a bundle, which was made with the same "
        "options; exit code 1 if one differs",
    )
    parser.add_argument("--recipe", help="name of the recipe in models/ that the checkpoint is one of")
    parser.add_argument(
        "--from-onnx",
        metavar="FILE",
        help="the encoder as optimum's ONNX file, here or within SOURCE: append pooling and what follows it to that, "
        "without torch",
    )
    parser.add_argument("--task", choices=task_names(), help="default: that of the checkpoint")
    parser.add_argument(
        "--outputs",
        metavar="NAMES",
        help="of an embedding model's graph: sentence_embedding, or sentence_embedding,token_embeddings for the "
        "vectors of tokens as well; default: the first, and hybrid_embeddings for a checkpoint like bge-m3, which has "
        "dense, sparse and multi-vector embeddings",
    )
    _add_compression(parser.add_argument_group("compression"))
    _add_vocabulary(parser.add_argument_group("vocabulary"))
    add_quiet(parser)
    parser.set_defaults(usage_error=parser.error)


def _add_compression(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--precision",
        metavar="P[,P]",
        type=_precisions,
        default=PRECISIONS[:1],
        help=f"of the layers: {', '.join(PRECISIONS)}, the last of which leaves their inputs in float32; several, such "
        "as fp32,int8, become graphs of one bundle, whose default is the first; default: fp32",
    )
    group.add_argument(
        "--table",
        choices=TABLES,
        help="of the token embeddings; default: int8 for more than 100,000 tokens and with --precision int8 or "
        "int8-weights, else fp32",
    )
    group.add_argument(
        "--calibration",
        metavar="FILE",
        help="texts, one per line, that set the ranges of int8 layers; for a cross-encoder a query, tab and passage; "
        "default: built-in sentences of 37 languages",
    )
    group.add_argument("--reduce-range", action="store_true", help="7-bit weights, for CPUs with AVX2 and without VNNI")
    for limit in LIMITS:
        special = "".join(f"{bound} with --precision {name}, " for name, bound in limit.defaults.items())
        words = f"refuse a {limit.refused}; default: {special}{'else ' if special else ''}{limit.default}"
        group.add_argument(limit.option, type=float, metavar="X", help=words)


def _add_vocabulary(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep-vocab",
        action="append",
        default=[],
        metavar="FILE",
        help="texts, one per line: retain the tokens they need, and the characters of their scripts; may be repeated",
    )
    group.add_argument(
        "--keep-scripts",
        action="extend",
        type=lambda codes: codes.split(","),
        default=[],
        metavar="CODES",
        help="retain the tokens of scripts, by ISO 15924 codes: Latn,Cyrl",
    )
    group.add_argument(
        "--coverage",
        action="append",
        default=[],
        metavar="FILE",
        help="other texts, one per line: report how the retained tokens cover them; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written and how near it is to torch, or whether it is a given bundle again."""
    if (arguments.output is None) == (arguments.reproduce is None):
        arguments.usage_error("give either OUTPUT, the folder to write, or --reproduce BUNDLE")
    with reported(arguments) as progress:
        if arguments.reproduce is not None:
            return _reproduce(arguments, progress)
        return _describe(_export(arguments, Path(arguments.output), progress))


def _precisions(value: str) -> tuple[str, ...]:
    """Parse one or more precisions."""
    names = split_precisions(value)
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise argparse.ArgumentTypeError(f"invalid choice: {unknown[0]!r} (choose from {', '.join(PRECISIONS)})")
    return names


def _reproduce(arguments: argparse.Namespace, progress: Progress) -> int:
    """Export into a temporary folder and compare that with the bundle.

    Raises:
        ExportError: a file differs.

    """
    expected = open_bundle(locate_bundle(arguments.reproduce, progress=progress), "full", progress)
    with TemporaryDirectory(prefix="monograph-") as folder:
        comparison = compare_bundles(_export(arguments, Path(folder, "bundle"), progress), expected)
    for line in comparison.describe():
        print(printable(line))
    if not comparison.differing:
        print(printable(f"{expected.path}: reproduced"))
        return 0
    sys.stdout.flush()
    versions = comparison.describe_versions()
    cause = (
        f"so do versions, {versions}: install those of the bundle"
        if versions
        else "give the checkpoint and the options that it was made with"
    )
    raise ExportError(f"the export differs from {expected.path} in {', '.join(comparison.differing)}; {cause}")


def _export(arguments: argparse.Namespace, output: Path, progress: Progress) -> Bundle:
    limits = {limit.keyword: getattr(arguments, limit.keyword) for limit in LIMITS}
    return export(
        arguments.source,
        output,
        task=arguments.task,
        precision=arguments.precision,
        table=arguments.table,
        calibration=arguments.calibration,
        reduce_range=arguments.reduce_range,
        keep_vocab=arguments.keep_vocab,
        keep_scripts=arguments.keep_scripts,
        coverage=arguments.coverage,
        recipe=arguments.recipe,
        from_onnx=arguments.from_onnx,
        outputs=arguments.outputs,
        show_progress_bar=progress,
        **{name: bound for name, bound in limits.items() if bound is not None},
    )


def _describe(bundle: Bundle) -> int:
    manifest, vocabulary = bundle.manifest, bundle.manifest.quality.vocabulary
    description = bundle.task.describe_output(manifest.section)
    print(printable(f"{bundle.path}: {bundle.size_bytes / 1e6:,.1f} MB, {description}"))
    if vocabulary is not None:
        print(printable(f"vocabulary: {vocabulary.describe()}"))
    for one in bundle.by_precision:
        quality = one.manifest.quality
        if one.precision is not None:
            print(printable(f"precision {one.precision}, quality {level_of(one)}:"))
        for verification in quality.verifications:
            print(printable(verification.describe(quality.reference_name)))
        if quality.compression is not None:
            print(printable(f"compressed: {quality.compression.describe()}"))
    return 0
