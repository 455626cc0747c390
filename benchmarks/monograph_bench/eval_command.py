"""`monograph eval`: how good a bundle's vectors or scores are, and what it lost against another model."""

from __future__ import annotations

import argparse

from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph_bench.bench_command import import_implementation

HELP = "score a bundle on your own data sets: similarity, translation, distance to a teacher, retrieval, reranking"
_EITHER = "a bundle, or st:CHECKPOINT to run a checkpoint by sentence-transformers in torch at float32"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    _add_embedding_data(parser)
    _add_ranking_data(parser)
    parser.add_argument(
        "--reference", metavar="MODEL", help=f"also evaluate this model and print the difference: {_EITHER}"
    )
    options.add_engine(parser)
    options.add_json(parser)
    add_quiet(parser)
    parser.set_defaults(bad_usage=parser.error)


def _add_embedding_data(parser: argparse.ArgumentParser) -> None:
    embedding = parser.add_argument_group("data for embedding models")
    _add_files(
        embedding,
        "--sts",
        ("FILE", "GOLD"),
        "pairs of sentences with gold scores, for the Pearson and Spearman correlations of their cosines, and of the "
        "model's own similarity if that is different; FILE is a table with the columns sentence1, sentence2 and score, "
        "STSbenchmark's file, .jsonl, or the first of SemEval's two files",
    )
    _add_files(
        embedding,
        "--translation",
        ("SOURCE", "TARGET"),
        "two files, in which line i of one is the translation of line i of the other, or one file of pairs separated "
        "by a tab, for the share of texts whose nearest neighbour by cosine is their translation, in both directions",
    )
    _add_files(
        embedding,
        "--mse",
        ("FILE", "TARGET"),
        "one text per line, for the mean squared difference from the teacher's vectors; with TARGET, the teacher "
        "embeds FILE and the model embeds TARGET, its translation",
    )
    embedding.add_argument("--teacher", metavar="MODEL", help=f"the teacher for --mse: {_EITHER}")


def _add_ranking_data(parser: argparse.ArgumentParser) -> None:
    retrieval = parser.add_argument_group("data for embedding models, sparse and multi-vector encoders")
    retrieval.add_argument(
        "--retrieval",
        action="append",
        default=[],
        type=options.path,
        metavar="FOLDER",
        help="BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv), for nDCG@10, MAP@100, Recall@10 and @100 by "
        "the model's similarity, with its prompts for queries and documents; for sparse vectors also the number of "
        "nonzero dimensions",
    )
    retrieval.add_argument("--split", default="test", help="the file of qrels/ that --retrieval uses; default: test")
    reranking = parser.add_argument_group("data for rerankers")
    reranking.add_argument(
        "--rerank",
        action="append",
        default=[],
        type=options.path,
        metavar="FILE",
        help='JSON lines of {"query": text, "positive": [texts], "negative": [texts]}, for MAP, MRR@10 and nDCG@10 of '
        'the documents by their scores; instead of "negative" a line may have "documents", in the order of a first '
        "search",
    )


def _add_files(group: argparse._ArgumentGroup, name: str, metavar: tuple[str, str], text: str) -> None:
    group.add_argument(name, action="append", default=[], type=options.path, nargs="+", metavar=metavar, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Read every data set, then evaluate the bundle and the reference one after the other, and print the scores."""
    _check_usage(arguments)
    evaluate = import_implementation("eval", "monograph_bench.evaluate")
    with reported(arguments) as progress:
        for line in evaluate.evaluate(arguments, progress):
            print(line)
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    data = [*arguments.sts, *arguments.translation, *arguments.mse, *arguments.retrieval, *arguments.rerank]
    if not data:
        arguments.bad_usage("nothing to evaluate: give --sts, --translation, --mse, --retrieval or --rerank")
    for name in ("sts", "translation", "mse"):
        if any(len(files) > 2 for files in getattr(arguments, name)):
            arguments.bad_usage(f"--{name} takes one file or two: repeat it for another data set")
    if arguments.mse and arguments.teacher is None:
        arguments.bad_usage("--mse needs --teacher: the model whose vectors are to be met")
    if arguments.teacher is not None and not arguments.mse:
        arguments.bad_usage("--teacher needs --mse: the texts to embed")
