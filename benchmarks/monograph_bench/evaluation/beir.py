"""A retrieval test in the folder layout of BEIR: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monograph.errors import InputError
from monograph_bench.evaluation.records import json_records, numbered_lines, text_field

_CORPUS, _QUERIES, _QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
# Columns of a line of judgements: BEIR's, and those of TREC's own files.
_BEIR_COLUMNS, _TREC_COLUMNS = 3, 4


@dataclass(frozen=True)
class BeirFolder:
    """Queries with a relevant document, and where the documents are.

    ``queries`` maps ids to texts. ``relevant`` maps a query's id to its relevant documents, each with its judgement,
    greater than 0. ``not_in_corpus`` counts those that the corpus lacks; they count as never found, as trec_eval does.
    """

    folder: Path
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]
    document_count: int
    not_in_corpus: int

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of each document, as they are read; the text is title and body with a space between.

        Raises:
            InputError: a line is malformed.
            OSError: the corpus cannot be read.

        """
        return _documents(self.folder / _CORPUS)


def read_beir(folder: Path, split: str = "test") -> BeirFolder:
    """Read queries and judgements, and check the corpus without keeping its texts.

    Queries for which nothing is relevant have no score and are left out.

    Raises:
        InputError: a file is missing, or malformed, with its line; or no query has a relevant document.
        OSError: a file cannot be read.

    """
    qrels = folder / _QRELS / f"{split}.tsv"
    for file in (folder / _CORPUS, folder / _QUERIES, qrels):
        if not file.is_file():
            raise InputError(_missing(folder, file))
    relevant = _relevant(qrels)
    if not relevant:
        raise InputError(f"{qrels} judges no document relevant (a score above 0): there is nothing to find")
    texts = _query_texts(folder / _QUERIES)
    if unknown := next((query for query in relevant if query not in texts), None):
        raise InputError(f"{qrels} judges the query {unknown!r}, which is not in {folder / _QUERIES}: add it there")
    ids = _document_ids(folder / _CORPUS)
    lacking = sum(document not in ids for judged in relevant.values() for document in judged)
    return BeirFolder(folder, {query: texts[query] for query in relevant}, relevant, len(ids), lacking)


def _missing(folder: Path, file: Path) -> str:
    if file.parent.name == _QRELS and (splits := sorted(path.stem for path in file.parent.glob("*.tsv"))):
        return f"{folder} has no {_QRELS}/{file.name}: choose one of its splits with --split, {', '.join(splits)}"
    return (
        f"{folder} has no {file.relative_to(folder)}: a BEIR folder holds {_CORPUS}, {_QUERIES} and "
        f"{_QRELS}/{file.name if file.parent.name == _QRELS else 'test.tsv'}"
    )


def _relevant(qrels: Path) -> dict[str, dict[str, int]]:
    """Return the documents judged above 0; trec_eval treats the others like those that nobody judged."""
    relevant: dict[str, dict[str, int]] = {}
    for number, line in numbered_lines(qrels):
        if not line.strip():
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if number == 1 and not _is_whole(fields[-1]):
            continue  # The header.
        if len(fields) not in (_BEIR_COLUMNS, _TREC_COLUMNS) or not _is_whole(fields[-1]):
            raise InputError(
                f"{qrels} line {number} is no judgement: give query id, document id and a whole number, tabs between"
            )
        query, document, judgement = fields[0], fields[-2], int(fields[-1])
        if judgement > 0:
            relevant.setdefault(query, {})[document] = judgement
    return relevant


def _query_texts(file: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, record in json_records(file):
        where = f"{file} line {number}"
        query = text_field(record, "_id", where)
        if query in texts:
            raise InputError(f"{where} has the id {query!r} of an earlier line: give each query its own")
        texts[query] = text_field(record, "text", where)
    return texts


def _document_ids(file: Path) -> set[str]:
    ids: set[str] = set()
    for document, _ in _documents(file):
        if document in ids:
            raise InputError(f"{file} has two documents with the id {document!r}: give each its own")
        ids.add(document)
    if not ids:
        raise InputError(f"{file} is empty: give it a document a line")
    return ids


def _documents(file: Path) -> Iterator[tuple[str, str]]:
    for number, record in json_records(file):
        where = f"{file} line {number}"
        title = text_field(record, "title", where) if "title" in record else ""
        yield text_field(record, "_id", where), f"{title} {text_field(record, 'text', where)}".strip()


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()
