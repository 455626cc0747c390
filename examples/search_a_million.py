"""Search a million embedded rows: an index of binary vectors in memory, and float vectors on disk to rescore with.

pip install "monograph[onnx,arrow]" usearch
monograph embed BUNDLE TABLES/ --column text --format npy -o VECTORS/
python examples/search_a_million.py BUNDLE TABLES/ VECTORS/ "a question" "another question"

The bits of a vector, one for each dimension, take a 32nd of its space. The index finds the rows whose bits differ least
from the question's, ten times as many as are wanted, and the float32 vectors of these few, which are read from disk,
put them in order. ``--recall N`` compares the result with an exact search, for the texts of N rows as questions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from monograph import Embedder


class Vectors:
    """The float32 vectors of a folder of .npy files as one array [n, d] that stays on disk."""

    def __init__(self, folder: Path) -> None:
        self.parts = [np.load(file, mmap_mode="r") for file in files_of(folder, ".npy")]
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the vectors of some rows, float32 [len(rows), d]."""
        places = np.searchsorted(self.starts, rows, side="right") - 1
        return np.stack([self.parts[place][row - self.starts[place]] for place, row in zip(places, rows, strict=True)])

    def blocks(self, rows: int = 50_000) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the first row and the vectors of each block."""
        for start, part in zip(self.starts, self.parts, strict=False):
            for first in range(0, len(part), rows):
                yield int(start) + first, np.asarray(part[first : first + rows])


def files_of(folder: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix in the order of their names without it, which tables and vectors share."""
    return sorted(folder.rglob(f"*{suffix}"), key=lambda file: file.relative_to(folder).with_suffix(""))


def to_bits(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a bit for each dimension, as precision="ubinary" does: uint8 [n, d / 8]."""
    return np.packbits(vectors > 0, axis=1)


def build_index(vectors: Vectors) -> Any:
    """Return an index of the binary vectors by their rows."""
    from usearch.index import Index

    index = Index(ndim=vectors.parts[0].shape[1], metric="hamming", dtype="b1", connectivity=16, expansion_add=64)
    for first, block in vectors.blocks():
        index.add(np.arange(first, first + len(block)), to_bits(block))
    return index


def search(
    index: Any, vectors: Vectors, questions: NDArray[np.float32], top: int, multiplier: int
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Return the rows and scores of the best ``top`` rows for each of the questions [q, d]."""
    index.expansion_search = max(64, 2 * top * multiplier)
    found = []
    for question, bits in zip(questions, to_bits(questions), strict=True):
        rows = np.sort(index.search(bits, top * multiplier).keys.astype(np.intp))
        scores = vectors.take(rows) @ question
        best = np.argsort(-scores)[:top]
        found.append((rows[best], scores[best]))
    return found


def search_exactly(vectors: Vectors, questions: NDArray[np.float32], top: int) -> NDArray[np.intp]:
    """Return the rows with the largest scores for each question, intp [q, ``top``], by looking at all."""
    scores = np.empty((len(questions), 0), np.float32)
    rows = np.empty((len(questions), 0), np.intp)
    for first, block in vectors.blocks():
        scores = np.concatenate([scores, questions @ block.T], axis=1)
        own = np.broadcast_to(np.arange(first, first + len(block)), (len(questions), len(block)))
        rows = np.concatenate([rows, own], axis=1)
        best = np.argpartition(-scores, min(top, scores.shape[1] - 1), axis=1)[:, :top]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows


def read_texts(folder: Path, column: str, rows: Sequence[int], count: int) -> list[str]:
    """Return the texts of some rows of a folder of Parquet files, which have ``count`` rows."""
    tables = [pyarrow.parquet.read_table(file, columns=[column]) for file in files_of(folder, ".parquet")]
    texts = pyarrow.concat_tables(tables)[column]
    if len(texts) != count:
        raise SystemExit(
            f"{folder} has {len(texts):,} rows and there are {count:,} vectors: embed all rows, as Parquet"
        )
    return [texts[int(row)].as_py() for row in rows]


def measure_recall(index: Any, vectors: Vectors, count: int, top: int, multiplier: int) -> dict[str, float]:
    """Compare with an exact search, for the vectors of ``count`` rows; each finds itself, which is left out."""
    rows = np.random.default_rng(0).choice(len(vectors), count, replace=False)
    questions = vectors.take(rows)
    begin = time.perf_counter()
    found = search(index, vectors, questions, top + 1, multiplier)
    seconds = time.perf_counter() - begin
    exact = search_exactly(vectors, questions, top + 1)
    shares = []
    for row, (near, _), nearest in zip(rows, found, exact, strict=True):
        wanted = set(nearest.tolist()) - {int(row)}
        shares.append(len(wanted & set(near.tolist())) / len(wanted))
    return {"recall": float(np.mean(shares)), "milliseconds_per_search": seconds / count * 1e3}


def main() -> None:
    """Print the best rows for each question, or the recall."""
    parser = argparse.ArgumentParser(description="Search embedded tables.")
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("tables", metavar="TABLES", type=Path, help="folder of Parquet files with the texts")
    parser.add_argument(
        "vectors", metavar="VECTORS", type=Path, help="folder that `monograph embed --format npy` wrote"
    )
    parser.add_argument("questions", metavar="QUESTION", nargs="*")
    parser.add_argument("--column", default="text")
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument(
        "--multiplier", type=int, default=10, help="candidates for each row that is wanted; default: 10"
    )
    parser.add_argument("--recall", type=int, metavar="N", help="compare N searches with exact ones")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    vectors = Vectors(arguments.vectors)
    begin = time.perf_counter()
    index = build_index(vectors)
    seconds = time.perf_counter() - begin
    print(f"{len(vectors):,} rows indexed in {seconds:.1f} s, {index.memory_usage / 1e6:,.0f} MB")
    if arguments.recall:
        print(json.dumps(measure_recall(index, vectors, arguments.recall, arguments.top, arguments.multiplier)))
    if arguments.questions:
        with Embedder(arguments.bundle, device=arguments.device) as model:
            questions = model.encode_query(arguments.questions, normalize_embeddings=True)
        found = search(index, vectors, questions, arguments.top, arguments.multiplier)
        for question, (rows, scores) in zip(arguments.questions, found, strict=True):
            print(question)
            texts = read_texts(arguments.tables, arguments.column, rows.tolist(), len(vectors))
            for score, text in zip(scores, texts, strict=True):
                print(f"  {score:.3f}  {text}")


if __name__ == "__main__":
    main()
