"""`monograph rank`: documents by how well they answer a query."""

from __future__ import annotations

import argparse
import json
from typing import Any

from monograph.commands import options
from monograph.cross_encoder import CrossEncoder
from monograph.errors import InputError, printable
from monograph.model import load
from monograph.multi_vector_encoder import MultiVectorEncoder
from monograph.ranking import RankedDocument
from monograph.text_lines import open_texts

HELP = (
    "rank the lines of a file, or of standard input, by their score for a query, with a reranker or by late interaction"
)


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
    with load(
        arguments.bundle,
        arguments.device,
        arguments.compute_dtype,
        arguments.threads,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
        quality=arguments.quality,
    ) as model:
        ranked = _rank(model, arguments, documents)
    if arguments.json:
        print(json.dumps(ranked))
        return 0
    width = len(str(len(ranked)))
    for rank, document in enumerate(ranked, start=1):
        print(f"{rank:>{width}} {document['score']:9.4f}  {printable(document['text'])}")
    return 0


def _rank(model: Any, arguments: argparse.Namespace, documents: list[str]) -> list[RankedDocument]:
    """Return the best documents.

    Raises:
        InputError: the bundle is of a task that ranks nothing, or has no use for an option.

    """
    if isinstance(model, CrossEncoder):
        return model.rank(
            arguments.query,
            documents,
            top_k=arguments.top_k,
            return_documents=True,
            prompt_name=arguments.prompt_name,
            prompt=arguments.prompt,
            batch_size=arguments.batch_size,
            show_progress_bar=False,
        )
    if not isinstance(model, MultiVectorEncoder):
        raise InputError(
            f"{arguments.bundle}: its task is {model.manifest.task!r}, and rank needs a cross-encoder or a "
            "multi-vector encoder: choose another bundle"
        )
    if (arguments.prompt_name, arguments.prompt) != (None, None):
        raise InputError("queries and documents have prompts of their own: leave out --prompt and --prompt-name")
    return model.rank(
        arguments.query,
        documents,
        top_k=arguments.top_k,
        return_documents=True,
        batch_size=arguments.batch_size,
        show_progress_bar=False,
    )
