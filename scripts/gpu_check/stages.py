"""The stages of a run, the most important first."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gpu_check.record import Record
from gpu_check.settings import Settings

Stage: TypeAlias = Callable[[Settings, Record], None]


@dataclass(frozen=True)
class StageEntry:
    """A stage.

    Attributes:
        name: Its name, and that of its JSON file.
        function: Its module and function.
        seconds: What it is given of the run's time; it is killed after twice as much and half a minute.
        needs_gpu: Whether it has nothing to do on a CPU.
        required: Whether a failure ends the run.

    """

    name: str
    function: str
    seconds: int
    needs_gpu: bool = False
    required: bool = False

    def load(self) -> Stage:
        """Import its module and return its function."""
        module, _, name = self.function.partition(":")
        function: Stage = getattr(importlib.import_module(f"gpu_check.{module}"), name)
        return function


STAGES = (
    StageEntry("check", "requirements:check", 20, required=True),
    StageEntry("export", "checkpoints:export_minilm", 60, required=True),
    StageEntry("verify", "correctness:verify", 40),
    StageEntry("assignment", "correctness:assign", 30),
    StageEntry("bulk", "speed:bulk_minilm", 80),
    StageEntry("single", "speed:single_minilm", 40),
    StageEntry("host", "host:measure", 50),
    StageEntry("bert-base", "speed:bert_base", 90),
    StageEntry("growth", "memory:growth", 50),
    StageEntry("out-of-memory", "memory:out_of_memory", 30, needs_gpu=True),
    StageEntry("variants", "variants:measure", 90),
    StageEntry("budgets", "variants:measure_budgets", 40),
    StageEntry("compiled", "speed:compiled", 80),
    StageEntry("profile", "correctness:profile", 30),
    StageEntry("int8-weights", "variants:measure_int8_weights", 60),
    StageEntry("labse", "speed:labse", 120),
)
