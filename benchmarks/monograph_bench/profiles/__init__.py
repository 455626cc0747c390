"""Task profiles: all that is measured and evaluated differently for each task. A new task is a module here."""

from __future__ import annotations

from collections.abc import Mapping

from monograph.errors import InputError
from monograph_bench.profiles.base import TaskProfile
from monograph_bench.profiles.embedding import EmbeddingProfile
from monograph_bench.profiles.rerank import RerankProfile
from monograph_bench.profiles.sparse import SparseProfile

PROFILES: Mapping[str, TaskProfile] = {
    profile.task.name: profile for profile in (EmbeddingProfile(), RerankProfile(), SparseProfile())
}

__all__ = ["PROFILES", "TaskProfile", "profile_of"]


def profile_of(task: str, name: str) -> TaskProfile:
    """Return the profile of a task; ``name`` is what an error calls the model of that task.

    Raises:
        InputError: the task has no profile.

    """
    if task not in PROFILES:
        raise InputError(f"{name} is of the task {task}, which this release neither measures nor evaluates")
    return PROFILES[task]
