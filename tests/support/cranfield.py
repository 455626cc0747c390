"""Cranfield: 1,400 abstracts, 225 questions and graded judgements, in SMART's format."""

from __future__ import annotations

import json
import re
from pathlib import Path

# Cranfield's judgements as gains: 1 is a complete answer, 4 of minimum interest, 5 and -1 are none.
_GAINS = {1: 4, 2: 3, 3: 2, 4: 1}


class Cranfield:
    """The collection in a folder; documents and queries are numbered from 0, in their order."""

    def __init__(self, folder: Path) -> None:
        self.documents = _entries(folder / "cran.all.1400")
        self.queries = _entries(folder / "cran.qry")
        # Gain of each document that is relevant to a query: (query, document) -> 1..4.
        self.gains: dict[tuple[int, int], int] = {}
        for line in (folder / "cranqrel").read_text().splitlines():
            # Queries are counted, their own numbers have gaps.
            query, document, judgement = map(int, line.split())
            if judgement in _GAINS:
                self.gains[query - 1, document - 1] = _GAINS[judgement]

    def write_beir(self, folder: Path, *, queries: int, documents: int) -> Path:
        """Make a BEIR folder of the first queries and documents, and the judgements among them."""
        (folder / "qrels").mkdir(parents=True)
        _write_json_lines(
            folder / "corpus.jsonl",
            # The text begins with the title already.
            [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(self.documents[:documents])],
        )
        _write_json_lines(
            folder / "queries.jsonl", [{"_id": f"q{i}", "text": text} for i, text in enumerate(self.queries[:queries])]
        )
        rows = [
            f"q{query}\td{document}\t{gain}\n"
            for (query, document), gain in self.gains.items()
            if query < queries and document < documents
        ]
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), "utf-8")
        return folder


def _write_json_lines(file: Path, records: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def _entries(file: Path) -> list[str]:
    """Return the text (.W) of each entry (.I) of a file in SMART's format."""
    entries = re.split(r"^\.I \d+$", file.read_text("latin-1"), flags=re.MULTILINE)[1:]
    return [" ".join(entry.split("\n.W\n", 1)[1].split()) for entry in entries]
