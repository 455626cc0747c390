"""Similarity and retrieval scores on real data: STS 2017 and Cranfield."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from monograph.similarity import similarity, similarity_pairwise

Encode = Callable[[list[str]], NDArray[np.float32]]
# Cranfield's judgements: 1 is a complete answer, 4 of minimum interest, 5 and -1 are none.
_GAINS = {1: 4, 2: 3, 3: 2, 4: 1}


def sts17_spearman(encode: Encode, folder: Path, track: str) -> float:
    """Return the rank correlation, in points of 100, of cosine similarities with the judgements of a track."""
    lines = (folder / "STS2017.eval.v1.1" / f"STS.input.{track}.txt").read_text("utf-8").splitlines()
    gold = [float(x) for x in (folder / "STS2017.gs" / f"STS.gs.{track}.txt").read_text().split()]
    pairs = [line.split("\t")[:2] for line in lines][: len(gold)]
    first, second = (encode([pair[side] for pair in pairs]) for side in (0, 1))
    return 100 * float(spearmanr(similarity_pairwise("cosine", first, second), gold).statistic)


def cranfield_ndcg10(encode: Encode, folder: Path) -> float:
    """Return the mean nDCG@10 over Cranfield's queries, of 1,400 documents each."""
    documents = _entries(folder / "cran.all.1400")
    queries = _entries(folder / "cran.qry")
    gains = np.zeros((len(queries), len(documents)))
    for line in (folder / "cranqrel").read_text().splitlines():
        # Queries are counted, their own numbers have gaps.
        query, document, judgement = map(int, line.split())
        gains[query - 1, document - 1] = _GAINS.get(judgement, 0)
    scores = similarity("cosine", encode(queries), encode(documents))
    judged = gains.any(axis=1)
    return float(ndcg_score(gains[judged], scores[judged], k=10))


def _entries(file: Path) -> list[str]:
    """Return the text (.W) of each entry (.I) of a file in SMART's format."""
    entries = re.split(r"^\.I \d+$", file.read_text("latin-1"), flags=re.MULTILINE)[1:]
    return [" ".join(entry.split("\n.W\n", 1)[1].split()) for entry in entries]
