"""A case, and the kinds of cases that there are."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fuzzing.randomness import random_of

# How many mutations a case has: mostly one, so that what fails says why.
_COUNTS = (1, 1, 1, 2, 2, 3, 5)


@dataclass
class Case:
    """What one case is made of; ``data`` is what its kind mutates."""

    number: int
    random: random.Random
    data: Any
    mutations: list[str] = field(default_factory=list)


class Kind(ABC):
    """A kind of cases: how one is made, mutated and run on a device."""

    name: ClassVar[str]

    def __init__(self, root: Path, device: str) -> None:
        self.root = root
        self.device = device

    def make(self, seed: int, number: int, without: Collection[int] = ()) -> Case:
        """Return a case without some of its mutations."""
        random = random_of(seed, self.name, number)
        case = Case(number, random, self.start(random))
        for step in range(random.choice(_COUNTS)):
            if step not in without:
                case.mutations.append(self.mutate(case.data, random_of(seed, self.name, number, step)))
        return case

    @abstractmethod
    def start(self, random: random.Random) -> Any:
        """Return what is mutated, as it is before."""

    @abstractmethod
    def mutate(self, data: Any, random: random.Random) -> str:
        """Change ``data`` and return what was done."""

    @abstractmethod
    def run(self, case: Case) -> str:
        """Use what was mutated as a caller does and return RESULT or ERROR.

        Raises:
            Violation: the outcome is not one that is promised.
            BaseException: what the project raised; anything but a MonographError is a failure.

        """

    @abstractmethod
    def save(self, case: Case, folder: Path) -> None:
        """Write what was mutated into a folder."""
