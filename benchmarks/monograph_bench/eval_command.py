"""`monograph eval`: how good a bundle's vectors or scores are, and what it lost against another model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from monograph.commands import options
from monograph.errors import MonographError
from monograph_bench.evaluation.models import TORCH_PREFIX, Located, Model, locate_model, open_model

if TYPE_CHECKING:
    from monograph_bench.evaluation.tasks import Task

HELP = "score a bundle on local data sets: similarity, translation, distance to a teacher, retrieval, reranking"
_EITHER = f"a bundle, or {TORCH_PREFIX}CHECKPOINT for sentence-transformers itself, in torch at float32"
_MSE = "mse"
# Metrics that are no points of 100: what they are, and the decimals that tell two models apart.
_OTHER_UNITS = {
    _MSE: ("100 times the mean squared difference, less is better", 6),
    "query_active_dims": ("the mean number of dimensions of a query's vector that are not zero", 1),
    "corpus_active_dims": ("the mean number of dimensions of a document's vector that are not zero", 1),
}
_DECIMALS_OF_POINTS = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    embedding = parser.add_argument_group("data for embedding models")
    _add_files(
        embedding,
        "--sts",
        ("FILE", "GOLD"),
        "pairs of sentences with gold scores: Pearson and Spearman of their cosines, and of the model's own similarity "
        "where that is another; a table with the columns sentence1, sentence2 and score, STSbenchmark's file, .jsonl, "
        "or SemEval's two files",
    )
    _add_files(
        embedding,
        "--translation",
        ("SOURCE", "TARGET"),
        "two files, line i of one the translation of line i of the other, or one file of pairs with a tab between "
        "them: the share of texts whose nearest neighbour by cosine is their translation, in both directions",
    )
    _add_files(
        embedding,
        "--mse",
        ("FILE", "TARGET"),
        "texts, one a line: mean squared difference from the teacher's vectors; with TARGET the teacher embeds FILE "
        "and the model TARGET, its translation",
    )
    embedding.add_argument("--teacher", metavar="MODEL", help=f"the teacher of --mse: {_EITHER}")
    retrieval = parser.add_argument_group("data for embedding models and sparse encoders")
    retrieval.add_argument(
        "--retrieval",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv): nDCG@10, MAP@100, Recall@10 and @100 by the "
        "model's similarity, with its prompts for queries and documents; of sparse vectors also how many dimensions "
        "are not zero",
    )
    retrieval.add_argument("--split", default="test", help="which file of qrels/ --retrieval uses; default: test")
    reranking = parser.add_argument_group("data for rerankers")
    reranking.add_argument(
        "--rerank",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help='JSON lines of {"query": text, "positive": [texts], "negative": [texts]}, or "documents", '
        'in the order in which they were found, in place of "negative": MAP, MRR@10 and nDCG@10 of the documents by '
        "their scores",
    )
    parser.add_argument(
        "--reference", metavar="MODEL", help=f"evaluate this as well and print the difference: {_EITHER}"
    )
    options.add_engine(parser)
    options.add_json(parser)
    parser.set_defaults(bad_usage=parser.error)


def _add_files(group: argparse._ArgumentGroup, name: str, metavar: tuple[str, str], text: str) -> None:
    group.add_argument(name, action="append", default=[], type=Path, nargs="+", metavar=metavar, help=text)


@dataclass(frozen=True)
class _Scored:
    """A model and its scores, those of each task by their names."""

    name: str
    runs_on: str
    scores: list[dict[str, float]]


def run(arguments: argparse.Namespace) -> int:
    """Read every data set, then evaluate the bundle and the reference one after the other, and print the scores."""
    _check_usage(arguments)
    tasks = _tasks(arguments)
    models = [locate_model(arguments.bundle)]
    if arguments.reference is not None:
        models.append(locate_model(arguments.reference, models[0].task))
    _check_fit(tasks, models)
    if arguments.mse:
        _check_fit([task for task in tasks if task.kind == _MSE], [locate_model(arguments.teacher)])
    bundle, *others = (_evaluated(model, tasks, arguments) for model in models)
    reference = others[0] if others else None
    if arguments.json:
        print(json.dumps(_to_json(bundle, reference, arguments.teacher, tasks), indent=2, ensure_ascii=False))
    else:
        _print(bundle, reference, tasks)
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    asked = [*arguments.sts, *arguments.translation, *arguments.mse, *arguments.retrieval, *arguments.rerank]
    if not asked:
        arguments.bad_usage("nothing to evaluate: give --sts, --translation, --mse, --retrieval or --rerank")
    for name in ("sts", "translation", "mse"):
        if any(len(files) > 2 for files in getattr(arguments, name)):
            arguments.bad_usage(f"--{name} takes one file or two: repeat it for another data set")
    if arguments.mse and arguments.teacher is None:
        arguments.bad_usage("--mse needs --teacher: the model whose vectors are to be met")
    if arguments.teacher is not None and not arguments.mse:
        arguments.bad_usage("--teacher needs --mse: the texts to embed")


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    try:
        # Here and not above: the command line reads this module where only the runtime is installed.
        from monograph_bench.evaluation import tasks
    except ModuleNotFoundError as error:
        raise MonographError(f"eval needs {error.name}: pip install 'monograph[bench]'") from error
    teacher = partial(_open_teacher, arguments)
    return [
        *(tasks.sts_task(*files) for files in arguments.sts),
        *(tasks.translation_task(*files) for files in arguments.translation),
        *(tasks.distance_task(teacher, *files) for files in arguments.mse),
        *(tasks.retrieval_task(folder, arguments.split) for folder in arguments.retrieval),
        *(tasks.rerank_task(file) for file in arguments.rerank),
    ]


@contextmanager
def _open_teacher(arguments: argparse.Namespace) -> Iterator[Model]:
    with open_model(
        locate_model(arguments.teacher), arguments.device, arguments.compute_dtype, arguments.threads
    ) as model:
        yield model


def _check_fit(tasks: Sequence[Task], models: Sequence[Located]) -> None:
    """Refuse models that a task does not fit before any of them is opened."""
    from monograph_bench.evaluation.tasks import check_fit

    for task in tasks:
        for model in models:
            check_fit(task.kind, model)


def _evaluated(located: Located, tasks: Sequence[Task], arguments: argparse.Namespace) -> _Scored:
    name = located.name
    with open_model(located, arguments.device, arguments.compute_dtype, arguments.threads) as model:
        scores = []
        for task in tasks:
            if sys.stderr.isatty():
                print(f"{name}: {task.kind} {_described(task)}", file=sys.stderr)
            scores.append(task.scores(model))
        return _Scored(name, model.runs_on, scores)


def _rows(
    bundle: _Scored, reference: _Scored | None, tasks: Sequence[Task]
) -> Iterable[tuple[Task, str, float, float | None]]:
    """Yield for each task and metric the bundle's score and the reference's, if it has one."""
    others = [{} for _ in tasks] if reference is None else reference.scores
    for task, scores, other in zip(tasks, bundle.scores, others, strict=True):
        for metric, score in scores.items():
            yield task, metric, score, other.get(metric)


def _to_json(
    bundle: _Scored, reference: _Scored | None, teacher: str | None, tasks: Sequence[Task]
) -> dict[str, object]:
    return {
        "unit": _unit(bundle),
        "bundle": {"name": bundle.name, "runs_on": bundle.runs_on},
        "reference": None if reference is None else {"name": reference.name, "runs_on": reference.runs_on},
        "teacher": teacher,
        "scores": [
            {
                "task": task.kind,
                "files": [str(file) for file in task.files],
                **task.counts,
                "metric": metric,
                "score": score,
                "reference": other,
                "difference": None if other is None else score - other,
            }
            for task, metric, score, other in _rows(bundle, reference, tasks)
        ],
    }


def _print(bundle: _Scored, reference: _Scored | None, tasks: Sequence[Task]) -> None:
    print(f"{bundle.name}: {bundle.runs_on}")
    head = ["data set", "metric", "score"]
    if reference is not None:
        print(f"reference {reference.name}: {reference.runs_on}")
        head += ["reference", "difference"]
    table = [head]
    for task, metric, score, other in _rows(bundle, reference, tasks):
        row = [_described(task), metric, _in_words(score, metric, "")]
        if other is not None:
            row += [_in_words(other, metric, ""), _in_words(score - other, metric, "+")]
        # A model with another similarity function has not all metrics.
        row += ["-"] * (len(head) - len(row))
        table.append(row)
    padding_buckets = [max(map(len, column)) for column in zip(*table, strict=True)]
    for data_set, metric, *numbers in table:
        cells = [data_set.ljust(padding_buckets[0]), metric.ljust(padding_buckets[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, padding_buckets[2:], strict=True)]
        print("  ".join(cells))
    print(f"({_unit(bundle)})")


def _unit(scored: _Scored) -> str:
    """Return in words what the scores are."""
    metrics = {metric for scores in scored.scores for metric in scores}
    others = [f"{metric} is {words}" for metric, (words, _) in _OTHER_UNITS.items() if metric in metrics]
    return "; ".join(["points of 100", *others])


def _in_words(value: float, metric: str, sign: str) -> str:
    _, decimals = _OTHER_UNITS.get(metric, ("", _DECIMALS_OF_POINTS))
    return format(value, f"{sign}.{decimals}f")


def _described(task: Task) -> str:
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in task.counts.items())
    return f"{task.files[0]} ({counts})"
