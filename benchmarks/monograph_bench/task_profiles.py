"""What systems of a task are given and give, and how reports call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE

# Passages that are reranked for a query: what a first search usually hands on.
PASSAGES = 100


@dataclass(frozen=True)
class TaskProfile:
    """What ``models`` compute one ``result`` of, how reports call that, and how single calls are made of it.

    ``call_sizes`` are the numbers of a single call. The first is the one that tables with room for one show, named
    ``call`` there; ``calls`` is a title, with "{size}" for the number and "{s}" for the plural. ``calls_in_one_batch``
    says that a call is one batch, and not cut as a pass is. ``equality`` is what says how near results are to torch's.
    """

    models: str
    many: str
    result: str
    call_sizes: tuple[int, ...]
    calls_in_one_batch: bool
    calls_a_round: int
    call: str
    calls: str
    equality: str


_TEXTS = TaskProfile(
    models="embedding models",
    many="texts",
    result="vector",
    call_sizes=(1, 8),
    calls_in_one_batch=True,
    calls_a_round=200,
    call="one short text",
    calls="calls of {size} short text{s}",
    equality="worst cosine",
)
_PAIRS = TaskProfile(
    models="rerankers",
    many="pairs",
    result="score",
    call_sizes=(PASSAGES,),
    calls_in_one_batch=False,
    # Each takes as long as a hundred of a text, or more.
    calls_a_round=10,
    call=f"a query with {PASSAGES} passages",
    calls="calls of {size} pairs, a query with its passages",
    equality="worst difference",
)
TASK_PROFILES: Mapping[str, TaskProfile] = {
    EMBEDDING: _TEXTS,
    RERANK: _PAIRS,
    SPARSE: replace(_TEXTS, models="sparse encoders"),
}
