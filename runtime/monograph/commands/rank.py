"""`monograph rank`: documents by how well they answer a query."""

from __future__ import annotations

import argparse
import json

from monograph.commands import options
from monograph.cross_encoder import CrossEncoder
from monograph.errors import printable
from monograph.text_lines import open_texts

HELP = "rank the lines of a file, or of standard input, by their score for a query"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument("query", metavar="QUERY", help="the query")
    options.add_texts(parser, "document")
    parser.add_argument("--top-k", type=options.positive, metavar="N", help="print only the first N; default: all")
    options.add_engine(parser)
    options.add_prompt(parser)
    options.add_batches(parser, "pairs")
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print rank, score and text of the best documents."""
    with open_texts(arguments.file, arguments.field) as texts:
        documents = list(texts)
    with CrossEncoder(
        arguments.bundle,
        arguments.device,
        arguments.compute_dtype,
        arguments.threads,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
        quality=arguments.quality,
    ) as model:
        ranked = model.rank(
            arguments.query,
            documents,
            top_k=arguments.top_k,
            return_documents=True,
            prompt_name=arguments.prompt_name,
            prompt=arguments.prompt,
            batch_size=arguments.batch_size,
            show_progress_bar=False,
        )
    if arguments.json:
        print(json.dumps(ranked))
        return 0
    width = len(str(len(ranked)))
    for rank, document in enumerate(ranked, start=1):
        print(f"{rank:>{width}} {document['score']:9.4f}  {printable(document['text'])}")
    return 0
