"""What is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How often each thing is measured; times in seconds.

    ``calls`` are those of each round for each of ``call_sizes``, the texts a call; ``trial_texts`` are what batch sizes
    are tried with.
    """

    rounds: int = 5
    starts: int = 3
    calls: int = 200
    call_sizes: tuple[int, ...] = (1, 8)
    trial_texts: int = 256
    timeout: int = 600
