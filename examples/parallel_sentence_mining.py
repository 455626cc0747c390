"""Find sentences of two corpora that mean the same, by margin scores.

python examples/parallel_sentence_mining.py BUNDLE
python examples/parallel_sentence_mining.py BUNDLE SOURCE_FILE TARGET_FILE

A cosine alone is a poor threshold: some sentences are close to everything. The ratio margin of Artetxe and Schwenk
(arXiv:1811.01136) divides it by the mean cosine of both sentences to their k nearest neighbours of the other corpus.
Two languages need a multilingual model, such as LaBSE; the built-in sentences are paraphrases in English.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph import Embedder

Floats = NDArray[np.float32]
Positions = NDArray[np.intp]

SOURCE = (
    "The bakery on the corner sells fresh rolls from five in the morning.",
    "Nobody was hurt when the crane fell over.",
    "She learned to play the violin at the age of four.",
    "The ferry was cancelled because of the storm.",
    "Please switch off your phones during the performance.",
    "Bees find their way home by the position of the sun.",
    "My brother repairs old clocks in his spare time.",
    "The town will plant two hundred trees along the river.",
    "Prices of houses have doubled within ten years.",
    "He forgot his umbrella on the train again.",
    "The recipe calls for three eggs and a pinch of salt.",
    "A glacier moves only a few centimetres a day.",
)
TARGET = (
    "Along the banks of the river, the council is going to put in two hundred new trees.",
    "From 5 a.m. you can buy warm bread rolls at the corner bakery.",
    "Due to stormy weather, the boat did not sail.",
    "Homes cost twice as much as they did a decade ago.",
    "The toppling of the crane caused no injuries.",
    "Once more he left his umbrella behind on the train.",
    "She was four years old when she started violin lessons.",
    "Mobile phones must be turned off while the show is on.",
    "In his free time, my brother mends antique clocks.",
    "Honeybees use the sun to navigate back to their hive.",
    "The committee meets on the first Monday of each month.",
    "Volcanic soil is good for growing wine.",
)


def nearest(source: Floats, target: Floats, k: int, block: int = 4096) -> tuple[Floats, Positions]:
    """Return the cosines and positions of the k nearest of ``target`` [m, d] for each of ``source`` [n, d], [n, k].

    Vectors have unit length. At most ``block`` x ``block`` cosines are in memory at once.
    """
    cosines = np.empty((len(source), k), dtype=np.float32)
    positions = np.empty((len(source), k), dtype=np.intp)
    for top in range(0, len(source), block):
        rows = source[top : top + block]
        best = np.empty((len(rows), 0), dtype=np.float32)
        where = np.empty((len(rows), 0), dtype=np.intp)
        for left in range(0, len(target), block):
            scores = rows @ target[left : left + block].T
            here = np.broadcast_to(np.arange(left, left + scores.shape[1], dtype=np.intp), scores.shape)
            best, where = np.concatenate([best, scores], axis=1), np.concatenate([where, here], axis=1)
            # Partitioned, not sorted: only the k largest of a row matter.
            top_k = np.argpartition(-best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
            best, where = np.take_along_axis(best, top_k, axis=1), np.take_along_axis(where, top_k, axis=1)
        cosines[top : top + block], positions[top : top + block] = best, where
    return cosines, positions


def mine(source: Floats, target: Floats, k: int, block: int = 4096) -> list[tuple[float, int, int]]:
    """Return pairs as (margin, position in ``source``, position in ``target``), the best first.

    Candidates are the best of each source and of each target; no sentence is in two pairs.
    """
    k = min(k, len(source), len(target))
    if k == 0:
        return []
    forward, targets = nearest(source, target, k, block)
    backward, sources = nearest(target, source, k, block)
    means, other_means = forward.mean(axis=1), backward.mean(axis=1)
    # Bounded from below: in a tiny corpus even the nearest neighbours may be orthogonal.
    margins = 2 * forward / np.maximum(means[:, np.newaxis] + other_means[targets], 1e-3)
    other_margins = 2 * backward / np.maximum(other_means[:, np.newaxis] + means[sources], 1e-3)
    best, other_best = margins.argmax(axis=1), other_margins.argmax(axis=1)
    candidates = {(float(margins[i, j]), i, int(targets[i, j])) for i, j in enumerate(best)}
    candidates |= {(float(other_margins[i, j]), int(sources[i, j]), i) for i, j in enumerate(other_best)}
    pairs = []
    used: set[int] = set()
    other_used: set[int] = set()
    for margin, one, other in sorted(candidates, reverse=True):
        if one not in used and other not in other_used:
            pairs.append((margin, one, other))
            used.add(one)
            other_used.add(other)
    return pairs


def main() -> None:
    """Print the pairs above a margin."""
    parser = argparse.ArgumentParser(description="Find sentences of two corpora that mean the same.")
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="*", help="two files, one sentence per line")
    parser.add_argument("--neighbours", type=int, default=4, help="k of the margin; default: 4")
    parser.add_argument("--margin", type=float, default=1.06, help="minimum margin of a pair; default: 1.06")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    if len(arguments.files) not in (0, 2):
        parser.error("give two files, or none")
    source, target = [lines_of(file) for file in arguments.files] or [list(SOURCE), list(TARGET)]
    with Embedder(arguments.bundle, device=arguments.device) as model:
        vectors, others = (model.encode(texts, normalize_embeddings=True) for texts in (source, target))
    for margin, one, other in mine(vectors, others, arguments.neighbours):
        if margin >= arguments.margin:
            print(f"{margin:.3f}\t{source[one]}\t{target[other]}")


def lines_of(file: Path) -> list[str]:
    """Return the distinct lines of a file that are not empty: a repeated sentence would be its own neighbour."""
    return list(dict.fromkeys(line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()))


if __name__ == "__main__":
    main()
