"""Data sets of `monograph eval`: files are read and checked here, before any model is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph.errors import InputError
from monograph_bench.evaluation.beir import read_beir
from monograph_bench.evaluation.models import Located, OpenModel
from monograph_bench.evaluation.parallel_texts import ParallelTexts, read_lines, read_parallel
from monograph_bench.evaluation.reranking import read_rerank
from monograph_bench.evaluation.sts import read_sts
from monograph_bench.profiles import PROFILES


@dataclass(frozen=True)
class DataSet:
    """A data set that was read: the option that named it, its files, how much of what it holds, and the data.

    ``evaluate`` takes a model whose profile has an evaluation of that ``kind``.
    """

    kind: str
    files: tuple[Path, ...]
    counts: Mapping[str, int]
    data: Any

    def evaluate(self, model: OpenModel) -> dict[str, float]:
        """Return a model's scores by the names that sentence-transformers' evaluators give them.

        They are points of 100, except metrics that are by their nature something else.
        """
        return model.profile.evaluations[self.kind](model.model, self.data)


def check_fit(kind: str, located: Located) -> None:
    """Refuse a model of a task that has no evaluation of a ``kind``.

    Raises:
        InputError: it is of such a task; the message names the options that fit it.

    """
    if kind in located.profile.evaluations:
        return
    tasks = [profile.task.name for profile in PROFILES.values() if kind in profile.evaluations]
    options = [f"--{other}" for other in located.profile.evaluations]
    raise InputError(
        f"--{kind} is for models of the task {' or '.join(tasks)}, and {located.name} is of the task "
        f"{located.profile.task.name}: give it {' or '.join(options)}"
    )


def sts_data(pairs_file: Path, gold_file: Path | None = None) -> DataSet:
    """Read pairs of sentences with gold scores.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    pairs = read_sts(pairs_file, gold_file)
    return DataSet("sts", _named(pairs_file, gold_file), {"pairs": len(pairs.gold)}, pairs)


def translation_data(source_file: Path, target_file: Path | None = None) -> DataSet:
    """Read texts and their translations; errors as ``sts_data``."""
    texts = read_parallel(source_file, target_file)
    return DataSet("translation", _named(source_file, target_file), {"pairs": len(texts.source)}, texts)


def distance_data(
    open_teacher: Callable[[], AbstractContextManager[OpenModel]], source_file: Path, target_file: Path | None = None
) -> DataSet:
    """Read the texts of a comparison with a teacher, which is open only while it is needed; errors as ``sts_data``."""
    if target_file is None:
        lines = read_lines(source_file)
        texts = ParallelTexts(lines, lines)
    else:
        texts = read_parallel(source_file, target_file)
    counts = {"texts": len(texts.source)}
    return DataSet("mse", _named(source_file, target_file), counts, (open_teacher, texts))


def retrieval_data(folder: Path, split: str) -> DataSet:
    """Read queries and judgements of a BEIR folder, its corpus again where it is embedded; errors as ``sts_data``."""
    data = read_beir(folder, split)
    counts = {"queries": len(data.queries), "documents": data.document_count}
    if data.not_in_corpus:
        counts["judgements_of_documents_not_in_the_corpus"] = data.not_in_corpus
    return DataSet("retrieval", (folder,), counts, data)


def rerank_data(file: Path) -> DataSet:
    """Read queries with their documents; errors as ``sts_data``."""
    queries = read_rerank(file)
    counts = {"queries": len(queries), "pairs": sum(len(query.documents) for query in queries)}
    if unanswered := sum(not any(query.relevant) for query in queries):
        counts["queries_without_a_positive"] = unanswered
    return DataSet("rerank", (file,), counts, queries)


def _named(*files: Path | None) -> tuple[Path, ...]:
    return tuple(file for file in files if file is not None)
