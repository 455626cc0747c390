"""A data set and how it is scored: files are read and checked here, before any model is opened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from monograph.errors import InputError
from monograph_bench.evaluation.beir import read_beir
from monograph_bench.evaluation.distance import distance_scores
from monograph_bench.evaluation.models import DenseModel, Located, Model, PairModel, SparseModel
from monograph_bench.evaluation.parallel_files import read_lines, read_parallel
from monograph_bench.evaluation.rerank_files import read_rerank
from monograph_bench.evaluation.reranking import rerank_scores
from monograph_bench.evaluation.retrieval import retrieval_scores
from monograph_bench.evaluation.sparse_retrieval import sparse_retrieval_scores
from monograph_bench.evaluation.sts import sts_scores
from monograph_bench.evaluation.sts_files import read_sts
from monograph_bench.evaluation.translation import ParallelTexts, translation_scores

# The options of `monograph eval` for data, each named as the kind of its task, and the tasks of the models they fit.
FITTING: Mapping[str, Collection[str]] = {
    "sts": ("embedding",),
    "translation": ("embedding",),
    "mse": ("embedding",),
    "retrieval": ("embedding", "sparse"),
    "rerank": ("rerank",),
}


@dataclass(frozen=True)
class Task:
    """A data set that was read: its kind, its files, how much of what it holds, and its scores of a model.

    ``scores`` takes a model that ``kind`` fits, and returns points of 100, but for numbers that are none by their
    nature, by the names that sentence-transformers' evaluators give them.
    """

    kind: str
    files: tuple[Path, ...]
    counts: Mapping[str, int]
    scores: Callable[[Model], dict[str, float]]


def check_fit(kind: str, located: Located) -> None:
    """Refuse a model that a kind of task cannot be asked of.

    Raises:
        InputError: it is of another task, with the options that fit that.

    """
    if located.task in FITTING[kind]:
        return
    fitting = [f"--{other}" for other, models in FITTING.items() if located.task in models]
    can = f"give it {' or '.join(fitting)}" if fitting else "no option fits that"
    raise InputError(
        f"--{kind} is for models of the task {' or '.join(FITTING[kind])}, and {located.name} is of the task "
        f"{located.task}: {can}"
    )


def sts_task(pairs_file: Path, gold_file: Path | None = None) -> Task:
    """Read an STS task, scored by cosine, and by the model's own function where that is another.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    pairs = read_sts(pairs_file, gold_file)

    def scores(model: Model) -> dict[str, float]:
        dense = _dense(model)
        return sts_scores(dense.encoder, pairs, list(dict.fromkeys(("cosine", dense.similarity))))

    return Task("sts", _named(pairs_file, gold_file), {"pairs": len(pairs.gold)}, scores)


def translation_task(source_file: Path, target_file: Path | None = None) -> Task:
    """Read a translation task.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    texts = read_parallel(source_file, target_file)

    def scores(model: Model) -> dict[str, float]:
        return translation_scores(_dense(model).encoder, texts)

    return Task("translation", _named(source_file, target_file), {"pairs": len(texts.source)}, scores)


def distance_task(
    open_teacher: Callable[[], AbstractContextManager[Model]], source_file: Path, target_file: Path | None = None
) -> Task:
    """Read the texts of a comparison with a teacher, which is open only while it is needed.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    if target_file is None:
        lines = read_lines(source_file)
        texts = ParallelTexts(lines, lines)
    else:
        texts = read_parallel(source_file, target_file)

    def scores(model: Model) -> dict[str, float]:
        with open_teacher() as teacher:
            return distance_scores(_dense(model).encoder, _dense(teacher).encoder, texts)

    return Task("mse", _named(source_file, target_file), {"texts": len(texts.source)}, scores)


def retrieval_task(folder: Path, split: str) -> Task:
    """Read the queries and judgements of a BEIR folder; its corpus is read again where it is embedded.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: a file cannot be read.

    """
    data = read_beir(folder, split)
    counts = {"queries": len(data.queries), "documents": data.document_count}
    if data.not_in_corpus:
        counts["judgements_of_documents_not_in_the_corpus"] = data.not_in_corpus

    def scores(model: Model) -> dict[str, float]:
        if isinstance(model, SparseModel):
            return sparse_retrieval_scores(model.encoder, data)
        return retrieval_scores(_dense(model).encoder, data)

    return Task("retrieval", (folder,), counts, scores)


def rerank_task(file: Path) -> Task:
    """Read the queries and documents of a reranking task.

    Raises:
        InputError: naming file and line that do not fit.
        OSError: the file cannot be read.

    """
    queries = read_rerank(file)
    counts = {"queries": len(queries), "pairs": sum(len(query.documents) for query in queries)}
    if unanswered := sum(not any(query.relevant) for query in queries):
        counts["queries_without_a_positive"] = unanswered

    def scores(model: Model) -> dict[str, float]:
        return rerank_scores(_scoring(model).scorer, queries)

    return Task("rerank", (file,), counts, scores)


def _dense(model: Model) -> DenseModel:
    # The command asks ``check_fit`` before it opens a model.
    assert isinstance(model, DenseModel)  # noqa: S101 - for the type checker
    return model


def _scoring(model: Model) -> PairModel:
    assert isinstance(model, PairModel)  # noqa: S101 - for the type checker
    return model


def _named(*files: Path | None) -> tuple[Path, ...]:
    return tuple(file for file in files if file is not None)
