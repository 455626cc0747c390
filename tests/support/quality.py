"""Similarity and retrieval scores on real data: STS 2017 and Cranfield."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from monograph.similarity import similarity, similarity_pairwise
from support.cranfield import Cranfield

Encode = Callable[[list[str]], NDArray[np.float32]]


def sts17_spearman(encode: Encode, folder: Path, track: str) -> float:
    """Return the rank correlation, in points of 100, of cosine similarities with the judgements of a track."""
    lines = (folder / "STS2017.eval.v1.1" / f"STS.input.{track}.txt").read_text("utf-8").splitlines()
    gold = [float(x) for x in (folder / "STS2017.gs" / f"STS.gs.{track}.txt").read_text().split()]
    pairs = [line.split("\t")[:2] for line in lines][: len(gold)]
    first, second = (encode([pair[side] for pair in pairs]) for side in (0, 1))
    return 100 * float(spearmanr(similarity_pairwise("cosine", first, second), gold).statistic)


def cranfield_ndcg10(encode: Encode, folder: Path) -> float:
    """Return the mean nDCG@10 over Cranfield's queries, of 1,400 documents each."""
    collection = Cranfield(folder)
    gains = np.zeros((len(collection.queries), len(collection.documents)))
    for (query, document), gain in collection.gains.items():
        gains[query, document] = gain
    scores = similarity("cosine", encode(collection.queries), encode(collection.documents))
    judged = gains.any(axis=1)
    return float(ndcg_score(gains[judged], scores[judged], k=10))
