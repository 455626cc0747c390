"""What is measured and evaluated differently for each task: a module each, with its object as ``PROFILE``."""

from __future__ import annotations

from collections.abc import Mapping

from monograph.errors import InputError
from monograph.tasks import task_modules
from monograph_bench.profiles.base import TaskProfile

PROFILES: Mapping[str, TaskProfile] = {module.PROFILE.task.name: module.PROFILE for module in task_modules(__name__)}

__all__ = ["PROFILES", "TaskProfile", "profile_of"]


def profile_of(task: str, name: str) -> TaskProfile:
    """Return the profile of a task; ``name`` is what an error calls the model of that task.

    Raises:
        InputError: the task has no profile.

    """
    if task not in PROFILES:
        raise InputError(f"{name} is of the task {task}, which this release neither measures nor evaluates")
    return PROFILES[task]
