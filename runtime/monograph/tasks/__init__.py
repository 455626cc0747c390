"""The tasks of this release. A task is added by a module of its own and a line here, or by ``register_task``."""

from __future__ import annotations

from typing import Any

from monograph.tasks.base import Task
from monograph.tasks.embedding import EMBEDDING
from monograph.tasks.rerank import RERANK
from monograph.tasks.sparse import SPARSE

__all__ = ["EMBEDDING", "RERANK", "SPARSE", "Task", "register_task", "task_named", "task_names", "tasks"]

_TASKS: dict[str, Task[Any]] = {task.name: task for task in (EMBEDDING, RERANK, SPARSE)}


def register_task(task: Task[Any]) -> None:
    """Add a task, or replace the one of its name."""
    _TASKS[task.name] = task


def tasks() -> tuple[Task[Any], ...]:
    """Return all tasks."""
    return tuple(_TASKS.values())


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, which a manifest has as its ``task``."""
    return tuple(_TASKS)


def task_named(name: str) -> Task[Any] | None:
    """Return the task of a name, None where this release has none."""
    return _TASKS.get(name)
