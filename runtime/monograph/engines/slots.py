"""What one thread uses at a time, in programs whose signal handlers raise where they like."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Slots(Generic[_T]):
    """Resources, each behind a lock of its own: ``lock, resource = slots.choose()``, then ``with lock: ...``.

    An exception of a signal handler can come between any two steps of Python. A Semaphore, or a queue of the free
    resources, then loses one for good, and after the last all callers wait forever; ``with`` loses no lock.
    """

    def __init__(self, resources: Iterable[_T]) -> None:
        self._slots = [(threading.Lock(), resource) for resource in resources]
        self._turns = itertools.count()

    def choose(self) -> tuple[threading.Lock, _T]:
        """Return a resource that is free, or else the next in turn, to wait for."""
        for slot in self._slots:
            if not slot[0].locked():
                return slot
        return self._slots[next(self._turns) % len(self._slots)]
