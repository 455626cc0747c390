"""A task from outside the package: the largest value of each vector, and in which dimension it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.model import Model
from monograph.tasks import Task
from monograph.tasks.base import DensePostProcess, Outputs
from monograph.tasks.embedding import VectorAgreement


@dataclass(frozen=True)
class ToySection:
    dimension: int
    scale: float = 1.0


@dataclass(frozen=True)
class ToyPostProcess(DensePostProcess):
    scale: float

    @property
    def width(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def __call__(self, outputs: Outputs) -> NDArray[Any]:
        return np.stack([outputs.max(axis=1) * self.scale, outputs.argmax(axis=1)], axis=1).astype(np.float32)


class ToyTask(Task[ToySection]):
    name = "toy"
    title = "a toy"
    model = "support.toy_task:ToyModel"
    command = "monograph toy"
    output = "sentence_embedding"
    width_field = "dimension"
    section_type = ToySection
    agreement_type = VectorAgreement

    def section_problems(self, section: ToySection) -> list[str]:
        return [] if section.scale > 0 else ["scale must be above 0"]

    def describe(self, section: ToySection) -> list[tuple[str, str]]:
        return [("toy", f"{section.dimension} dimensions, scale {section.scale}")]

    def post_process(self, section: ToySection) -> ToyPostProcess:  # type: ignore[override]
        return ToyPostProcess(section.scale)


TOY = ToyTask()


class ToyModel(Model[ToySection]):
    _task = TOY

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        plan = TOY.post_process(self._section)
        return self._run(texts, self._check_call(plan, None, None, None), False)
