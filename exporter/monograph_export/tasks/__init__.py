"""The tasks that are exported. A task is added by a module of its own and a line here.

Imports no torch: the command line reads it before torch is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monograph.errors import ExportError
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.tasks.base import ExportTask
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from monograph_export.tasks.rerank import RERANK_EXPORT
from monograph_export.tasks.sparse import SPARSE_EXPORT

__all__ = ["EMBEDDING_EXPORT", "RERANK_EXPORT", "SPARSE_EXPORT", "ExportTask", "task_names", "task_of", "task_of_model"]

# Embedding first: whatever is of no other task is of that, and refused as one if it must be.
_TASKS: tuple[ExportTask[Any], ...] = (EMBEDDING_EXPORT, RERANK_EXPORT, SPARSE_EXPORT)


def task_names() -> tuple[str, ...]:
    """Return the names of the tasks that are exported."""
    return tuple(task.name for task in _TASKS)


def task_of(checkpoint: Checkpoint, requested: str | None) -> ExportTask[Any]:
    """Return the task of a checkpoint; a transformer alone may be of several, of which the ``requested`` one is taken.

    Raises:
        ExportError: a file of it cannot be read.

    """
    for task in _TASKS[1:]:
        if checkpoint.settings.get("model_type") == task.kind.model_type:
            return task
    others = (task for task in _TASKS[1:] if task.detects(checkpoint, requested=requested == task.name))
    return next(others, EMBEDDING_EXPORT)


def task_of_model(model: object) -> ExportTask[Any]:
    """Return the task of a loaded model.

    Raises:
        ExportError: it is no model of sentence-transformers.

    """
    tasks: Iterator[ExportTask[Any]] = (task for task in reversed(_TASKS) if isinstance(model, task.kind.model_class()))
    if (known := next(tasks, None)) is not None:
        return known
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
