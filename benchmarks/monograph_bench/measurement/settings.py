"""What is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from monograph.bundle.manifest import EMBEDDING
from monograph_bench.task_profiles import TASK_PROFILES


@dataclass(frozen=True)
class Settings:
    """How often each thing is measured; times in seconds.

    ``calls`` are those of each round for each of ``call_sizes``, the texts or pairs a call; ``trial_texts`` are what
    batch sizes are tried with.
    """

    rounds: int = 5
    starts: int = 3
    calls: int = TASK_PROFILES[EMBEDDING].calls_a_round
    call_sizes: tuple[int, ...] = TASK_PROFILES[EMBEDDING].call_sizes
    trial_texts: int = 256
    timeout: int = 600
