"""Pairs to measure rerankers with: queries and passages of the project's own sentences, or the user's file."""

from __future__ import annotations

from pathlib import Path

from monograph.errors import InputError
from monograph_bench.evaluation.parallel_files import read_parallel
from monograph_bench.task_profiles import PASSAGES
from monograph_bench.texts import Workload, texts_of_mix

NAME = "rerank"


def make_pairs(count: int, language: str | None) -> Workload:
    """Return pairs of a query and a passage, 100 passages a query and none twice; the same at every call.

    The queries are texts of the mix "short", the passages of "mixed", in one language or, with None, in many.
    """
    queries = texts_of_mix("short", -(-count // PASSAGES), language)
    passages = texts_of_mix("mixed", count, language)
    return Workload(NAME, tuple((queries[i // PASSAGES], passage) for i, passage in enumerate(passages)))


def file_pairs(file: Path, limit: int | None) -> Workload:
    """Return the different pairs of a user's file, the first of them with a limit: a tab between query and passage.

    Raises:
        InputError: the file cannot be read or has another layout, with its line; or it is named as the own pairs are.

    """
    if file.name == NAME:
        raise InputError(f"{file} is named as the pairs of {NAME}: the report could not tell them apart, rename it")
    try:
        read = read_parallel(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    pairs = dict.fromkeys(zip(read.source, read.target, strict=True))
    return Workload(file.name, tuple(pairs)[:limit])
