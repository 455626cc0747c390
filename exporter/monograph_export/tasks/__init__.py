"""The tasks that are exported: a module each, with its object as ``TASK``.

Imports no torch: the command line reads it before torch is there.
"""

from __future__ import annotations

from typing import Any

from monograph.errors import ExportError
from monograph.tasks import task_modules
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.tasks.base import ExportTask
from monograph_export.tasks.embedding import EMBEDDING_EXPORT

__all__ = ["ExportTask", "check_requested", "task_names", "task_of", "task_of_model"]

_TASKS: tuple[ExportTask[Any], ...] = tuple(module.TASK for module in task_modules(__name__))


def task_names() -> tuple[str, ...]:
    """Return the names of the tasks that are exported."""
    return tuple(task.name for task in _TASKS)


def task_of(checkpoint: Checkpoint, requested: str | None) -> ExportTask[Any]:
    """Return the task of a checkpoint; a transformer alone may be of several, of which the ``requested`` one is taken.

    Raises:
        ExportError: a file of it cannot be read.

    """
    # Whatever is of no other task is of embedding, and refused as one if it must be.
    others = [task for task in _TASKS if task is not EMBEDDING_EXPORT]
    for task in others:
        if checkpoint.settings.get("model_type") == task.kind.model_type:
            return task
    detected = (task for task in others if task.detects(checkpoint, requested=requested == task.name))
    return next(detected, EMBEDDING_EXPORT)


def task_of_model(model: object) -> ExportTask[Any]:
    """Return the task of a loaded model.

    Raises:
        ExportError: it is no model of sentence-transformers.

    """
    # By the nearest class, for those of several tasks may be derived from each other.
    for base in type(model).__mro__:
        for task in _TASKS:
            if base.__name__ == task.kind.model_type and base is task.kind.model_class():
                return task
    raise ExportError(
        f"SOURCE must be a str, a path or a loaded model of sentence-transformers, got {type(model).__name__}"
    )


def check_requested(name: object, task: ExportTask[Any], requested: str | None) -> None:
    """Compare the task of a checkpoint with the requested one, None for any.

    Raises:
        ExportError: it is another, or one that is not exported.

    """
    if requested not in (None, task.name):
        other = next(other for other in _TASKS if other.name == requested)
        raise ExportError(f"{name} is {task.title}, not {other.title}: leave out --task, or give {task.name!r}")
