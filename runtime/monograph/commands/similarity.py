"""`monograph similarity`: the similarity of texts."""

from __future__ import annotations

import argparse
import json

from monograph.commands import options
from monograph.embedder import Embedder
from monograph.errors import printable

HELP = "print the similarity of texts with each other"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to compare with each other")
    # bfloat16 is no faster for a few texts, and changes the fourth digit.
    options.add_engine(parser, compute_dtype="float32")
    options.add_prompt(parser)
    options.add_task(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the matrix, a row for each text."""
    with Embedder(
        arguments.bundle, arguments.device, arguments.compute_dtype, arguments.threads, quality=arguments.quality
    ) as model:
        vectors = model.encode(arguments.texts, arguments.prompt_name, arguments.prompt, task=arguments.task)
        matrix = model.similarity(vectors, vectors)
        function = model.manifest.section.similarity
    if arguments.json:
        print(json.dumps({"similarity": function, "matrix": matrix.tolist()}))
    else:
        for row, text in zip(matrix, arguments.texts, strict=True):
            print(" ".join(f"{value:7.4f}" for value in row), f" {printable(text)}")
    return 0
