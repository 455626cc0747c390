"""A Progress that notes its steps, and fails where one is within another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from monograph.progress import Progress, Step


@dataclass
class RecordedStep(Step):
    """A step with the units that were reported; ``done`` once it has ended, without an error."""

    name: str
    total: int | None
    unit: str
    count: int = 0
    done: bool = False

    def advance(self, count: int = 1) -> None:
        assert count > 0
        assert not self.done
        self.count += count


class Recorder(Progress):
    """The steps in their order."""

    def __init__(self) -> None:
        self.steps: list[RecordedStep] = []
        self._is_open = False

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        assert not self._is_open, f"{name} is within {self.steps[-1].name}"
        self._is_open = True
        self.steps.append(RecordedStep(name, total, unit))
        try:
            yield self.steps[-1]
        finally:
            self._is_open = False
        self.steps[-1].done = True

    @property
    def names(self) -> list[str]:
        return [step.name for step in self.steps]

    def assert_complete(self) -> None:
        """Check that each step ended well, and reported as many units as it said it would."""
        for step in self.steps:
            assert step.done, step
            assert step.count == step.total or (step.total is None and not step.unit), step
