"""`monograph export`."""

from __future__ import annotations

import argparse
import sys

from monograph_export import export

HELP = "turn a Sentence Transformers checkpoint into a bundle and prove it equal to torch"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of the checkpoint, ORG/NAME[@REVISION] on a Hub, or a recipe in models/",
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to write; must not exist yet")
    parser.add_argument("--recipe", help="name of the recipe in models/ that the checkpoint is one of")
    parser.add_argument("--task", choices=("embedding",), help="default: told from the checkpoint")
    parser.add_argument("--precision", choices=("fp32",), default="fp32", help="default: fp32")


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written and how near it is to torch."""
    if sys.stderr.isatty():
        print(f"exporting {arguments.source}: loading, tracing, verifying", file=sys.stderr)
    bundle = export(
        arguments.source,
        arguments.output,
        task=arguments.task,
        precision=arguments.precision,
        recipe=arguments.recipe,
    )
    print(f"{bundle.path}: {bundle.size_bytes / 1e6:,.1f} MB, {bundle.manifest.embedding.dimension} dimensions")
    for verdict in bundle.manifest.quality["verdicts"]:
        near = "equal" if verdict["compute_dtype"] == "float32" else "close"
        print(
            f"{verdict['device']} ({verdict['engine']} {verdict['version']}) {verdict['compute_dtype']}: "
            f"{f'{near} to torch' if verdict['passed'] else 'WRONG: ' + verdict['reason']}, max abs difference "
            f"{verdict['max_abs_difference']:.1e}, worst cosine {verdict['min_cosine']:.6f} over "
            f"{verdict['probes']} probes"
        )
    return 0
