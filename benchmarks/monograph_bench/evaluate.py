"""What `monograph eval` does: read data sets, evaluate the bundle and its reference, and report the scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import PurePath

from monograph.errors import printable
from monograph.progress import SILENT, Progress
from monograph_bench.evaluation import data_sets
from monograph_bench.evaluation.data_sets import DataSet, check_fit
from monograph_bench.evaluation.models import Located, OpenModel, locate_model, open_model

_MSE = "mse"
# Metrics that are not points of 100: what they are, and the decimals that tell two models apart.
_OTHER_UNITS = {
    _MSE: ("100 times the mean squared difference, less is better", 6),
    "query_active_dims": ("the mean number of dimensions of a query's vector that are not zero", 1),
    "corpus_active_dims": ("the mean number of dimensions of a document's vector that are not zero", 1),
    "query_vectors": ("the mean number of vectors of a query", 1),
    "corpus_vectors": ("the mean number of vectors of a document", 1),
}
_DECIMALS_OF_POINTS = 2


@dataclass(frozen=True)
class _Evaluated:
    """A model and its scores, those of each data set by metric."""

    name: str
    runs_on: str
    scores: list[dict[str, float]]


@dataclass(frozen=True)
class _Row:
    """A metric of a data set: the bundle's score, and the reference's, None where it has none."""

    data_set: DataSet
    metric: str
    score: float
    reference: float | None


def evaluate(arguments: argparse.Namespace, progress: Progress = SILENT) -> Iterator[str]:
    """Evaluate what the command line names, and yield the lines of the report.

    Every file is read, and every model checked against the data, before any model is opened. Each data set of a model
    is a step of ``progress``.

    Raises:
        MonographError: a file, or a model, cannot be used.

    """
    sets = _read_data_sets(arguments, lambda: _open(locate_model(arguments.teacher), arguments))
    models = [locate_model(arguments.bundle, progress=progress)]
    if arguments.reference is not None:
        models.append(locate_model(arguments.reference, models[0].profile.task.name, progress))
    for data_set in sets:
        for model in models:
            check_fit(data_set.kind, model)
    if arguments.mse:
        check_fit(_MSE, locate_model(arguments.teacher, progress=progress))
    bundle, *others = (_evaluate_model(model, sets, arguments, progress) for model in models)
    reference = others[0] if others else None
    rows = _rows(bundle, reference, sets)
    if arguments.json:
        yield json.dumps(_to_json(bundle, reference, arguments.teacher, rows), indent=2)
    else:
        yield from map(printable, _table(bundle, reference, rows))


def _read_data_sets(
    arguments: argparse.Namespace, open_teacher: Callable[[], AbstractContextManager[OpenModel]]
) -> list[DataSet]:
    return [
        *(data_sets.sts_data(*files) for files in arguments.sts),
        *(data_sets.translation_data(*files) for files in arguments.translation),
        *(data_sets.distance_data(open_teacher, *files) for files in arguments.mse),
        *(data_sets.retrieval_data(folder, arguments.split) for folder in arguments.retrieval),
        *(data_sets.rerank_data(file) for file in arguments.rerank),
    ]


def _open(located: Located, arguments: argparse.Namespace) -> AbstractContextManager[OpenModel]:
    return open_model(located, arguments.device, arguments.compute_dtype, arguments.threads, quality=arguments.quality)


def _evaluate_model(
    located: Located, sets: Sequence[DataSet], arguments: argparse.Namespace, progress: Progress
) -> _Evaluated:
    # Paths may be long, and a step's line is short.
    name = PurePath(located.name).name
    with ExitStack() as stack:
        with progress.step(f"Opening {name}"):
            model = stack.enter_context(_open(located, arguments))
        scores = []
        for data_set in sets:
            with progress.step(f"Evaluating {name} on {data_set.files[0].name}"):
                scores.append(data_set.evaluate(model))
        return _Evaluated(located.name, model.runs_on, scores)


def _rows(bundle: _Evaluated, reference: _Evaluated | None, sets: Sequence[DataSet]) -> list[_Row]:
    others: list[dict[str, float]] = [{} for _ in sets] if reference is None else reference.scores
    return [
        _Row(data_set, metric, score, other.get(metric))
        for data_set, scores, other in zip(sets, bundle.scores, others, strict=True)
        for metric, score in scores.items()
    ]


def _to_json(
    bundle: _Evaluated, reference: _Evaluated | None, teacher: str | None, rows: Sequence[_Row]
) -> dict[str, object]:
    return {
        "unit": _unit(rows),
        "bundle": {"name": bundle.name, "runs_on": bundle.runs_on},
        "reference": None if reference is None else {"name": reference.name, "runs_on": reference.runs_on},
        "teacher": teacher,
        "scores": [
            {
                "task": row.data_set.kind,
                "files": [str(file) for file in row.data_set.files],
                **row.data_set.counts,
                "metric": row.metric,
                "score": row.score,
                "reference": row.reference,
                "difference": None if row.reference is None else row.score - row.reference,
            }
            for row in rows
        ],
    }


def _table(bundle: _Evaluated, reference: _Evaluated | None, rows: Sequence[_Row]) -> Iterator[str]:
    yield f"{bundle.name}: {bundle.runs_on}"
    head = ["data set", "metric", "score"]
    if reference is not None:
        yield f"reference {reference.name}: {reference.runs_on}"
        head += ["reference", "difference"]
    table = [head]
    for row in rows:
        cells = [_describe(row.data_set), row.metric, _format(row.score, row.metric, "")]
        if row.reference is not None:
            cells += [_format(row.reference, row.metric, ""), _format(row.score - row.reference, row.metric, "+")]
        # A model with another similarity function has not all metrics.
        table.append(cells + ["-"] * (len(head) - len(cells)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for data_set, metric, *numbers in table:
        aligned = [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        yield "  ".join([data_set.ljust(widths[0]), metric.ljust(widths[1]), *aligned])
    yield f"({_unit(rows)})"


def _unit(rows: Sequence[_Row]) -> str:
    """Describe what the scores are."""
    metrics = {row.metric for row in rows}
    others = [f"{metric} is {description}" for metric, (description, _) in _OTHER_UNITS.items() if metric in metrics]
    return "; ".join(["points of 100", *others])


def _format(value: float, metric: str, sign: str) -> str:
    _, decimals = _OTHER_UNITS.get(metric, ("", _DECIMALS_OF_POINTS))
    # Added to 0, -0.0 is 0.0.
    return format(round(value, decimals) + 0.0, f"{sign}.{decimals}f")


def _describe(data_set: DataSet) -> str:
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in data_set.counts.items())
    return f"{data_set.files[0]} ({counts})"
