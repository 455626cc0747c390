"""What is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from monograph.errors import InputError


@dataclass(frozen=True)
class Settings:
    """How often each thing is measured; times in seconds.

    ``calls`` are those of each round for each of ``call_sizes``, the texts a call; ``trial_texts`` are what batch sizes
    are tried with.
    """

    rounds: int = 5
    starts: int = 3
    calls: int = 50
    call_sizes: tuple[int, ...] = (1, 8)
    trial_texts: int = 256
    timeout: float = 600.0

    def check(self) -> None:
        """Refuse what measures nothing.

        Raises:
            InputError: a number is not positive.

        """
        for name in ("rounds", "starts", "calls", "trial_texts", "timeout"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
