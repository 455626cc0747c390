"""What holds an engine's native object, which belongs to the process that made it.

A fork copies the object without its threads: running it may hang, and so may destroying it, which joins them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from typing import Any, Generic, TypeVar

from monograph.errors import MonographError

_T = TypeVar("_T")
_alive: weakref.WeakSet[NativeObject[Any]] = weakref.WeakSet()


class NativeObject(Generic[_T]):
    """A session or compiled model until it is released, for the process that made it only."""

    def __init__(self, value: _T) -> None:
        self._value: _T | None = value
        self._process = os.getpid()
        _keep_in_forked_children()
        _alive.add(self)

    def get(self) -> _T:
        """Return the object.

        Raises:
            MonographError: it was released, or this process was forked from the one that made it.

        """
        if self._process != os.getpid():
            raise MonographError(
                "this model was opened before the process was forked, and its threads are not in this process: open "
                "it in each worker (gunicorn: without --preload), or start the workers with 'spawn'"
            )
        if self._value is None:
            raise MonographError("the model was closed: open it again to go on")
        return self._value

    def release(self) -> None:
        """Destroy the object once no run uses it any more."""
        self._value = None

    def never_destroy(self) -> None:
        """Keep the object for as long as the process lives, its exit included."""
        if self._value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._value))


@functools.cache
def _keep_in_forked_children() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_all)


def _keep_all() -> None:
    for native in list(_alive):
        native.never_destroy()
