"""The tasks of this release. A task is a module here with its object as ``TASK``; ``register_task`` adds another."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from monograph.tasks.base import Task

__all__ = ["Task", "register_task", "task_modules", "task_named", "task_names", "tasks"]


def task_modules(package: str) -> Iterator[ModuleType]:
    """Yield the modules of a package that has one for each task, and ``base`` for what they have in common."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name != "base":
            yield importlib.import_module(f"{package}.{module.name}")


_TASKS: dict[str, Task[Any]] = {module.TASK.name: module.TASK for module in task_modules(__name__)}


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
