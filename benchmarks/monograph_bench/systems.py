"""What is measured: a bundle on a device, or a peer, in the environment that has its packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The kinds of system that reports tell apart.
OURS, PEER = "monograph", "peer"


@dataclass(frozen=True)
class System:
    """A system under measurement, by the name that the report gives it.

    ``python`` is its environment's interpreter; ``adapter`` the module of ``worker/adapters`` that loads it, with
    ``options`` as keywords, JSON values; ``batch_sizes`` are those that are tried before the best is measured, None
    being the system's own choice; ``usage`` says in words how the adapter calls it.
    """

    name: str
    kind: str
    python: Path
    adapter: str
    options: Mapping[str, object]
    batch_sizes: tuple[int | None, ...]
    usage: str


@dataclass(frozen=True)
class Unavailable:
    """A system that cannot be measured here, and why."""

    kind: str
    reason: str
