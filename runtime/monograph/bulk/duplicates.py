"""Vectors of texts that were computed before, in a bounded amount of memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# About what an entry takes in Python beside its vector.
_ENTRY_BYTES = 160


class VectorTable:
    """A hash table from texts to vectors ``dtype`` [``width``], of which the oldest makes room for the newest.

    Texts are compared by 128 bits of BLAKE2b. The vectors of ``max_bytes`` are allocated as they are filled.
    """

    def __init__(self, max_bytes: int, width: int, dtype: np.dtype[Any]) -> None:
        self._slots = max(1, max_bytes // (width * dtype.itemsize + _ENTRY_BYTES))
        self._vectors = np.empty((self._slots, width), dtype)
        self._places: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._next = 0
        self.found = 0

    def encode(self, texts: Sequence[str], encode: Callable[[list[str]], NDArray[Any]]) -> NDArray[Any]:
        """Return the vectors of texts, [n, ``width``]; ``encode`` computes those that are not in the table, each once.

        ``texts`` is at most as long as there are slots, or the table forgets some of them at once.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        places = [self._places.get(key) for key in keys]
        new = {key: place for place, (key, known) in enumerate(zip(keys, places, strict=True)) if known is None}
        order = {key: number for number, key in enumerate(new)}
        self.found += len(texts) - len(new)
        computed = encode([texts[place] for place in new.values()]) if new else None
        result = np.empty((len(texts), self._vectors.shape[1]), self._vectors.dtype)
        for row, (key, known) in enumerate(zip(keys, places, strict=True)):
            if known is not None:
                result[row] = self._vectors[known]
            elif computed is not None:
                result[row] = computed[order[key]]
        for key, number in order.items():
            if computed is not None:
                self._insert(key, computed[number])
        return result

    def _insert(self, key: bytes, vector: NDArray[Any]) -> None:
        slot = self._next
        if len(self._keys) < self._slots:
            self._keys.append(key)
        else:
            del self._places[self._keys[slot]]
            self._keys[slot] = key
        self._vectors[slot] = vector
        self._places[key] = slot
        self._next = (slot + 1) % self._slots
