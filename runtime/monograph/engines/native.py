"""The native side of engines: importing their packages, and objects that belong to the process that made them.

A fork copies such an object without its threads: running it may hang, and so may destroying it, which joins them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import weakref
from types import ModuleType
from typing import Any, Generic, TypeVar

from monograph.errors import DeviceError, MonographError, first_line
from monograph.memory import is_out_of_memory, out_of_memory
from monograph.signal_handlers import passed_a_signal_handler

_T = TypeVar("_T")
_alive: weakref.WeakSet[NativeObject[Any]] = weakref.WeakSet()
# What the engines' bindings make of C++'s own exceptions, of memory that is not there and of text that is not UTF-8.
_TRANSLATED = frozenset((RuntimeError, ValueError, UnicodeDecodeError, MemoryError, IndexError, OverflowError))
# What else the import of a broken package raises.
_BROKEN = _TRANSLATED | {
    *(ImportError, ModuleNotFoundError, OSError, FileNotFoundError, PermissionError, SyntaxError),
    *(AttributeError, KeyError, NameError, TypeError, SystemError, AssertionError),
}


def import_engine(package: str, min_version: tuple[int, int], device: str) -> ModuleType:
    """Import an engine's package; raise ``DeviceError`` if it cannot be loaded, or is older than ``min_version``."""
    try:
        module = importlib.import_module(package)
        version = module.__version__.split("-")[0]
    except Exception as error:
        if type(error) not in _BROKEN or passed_a_signal_handler(error):
            raise
        if is_out_of_memory(error):
            raise out_of_memory(error, 0, f"import {package}") from error
        raise DeviceError(f"{package} is installed and cannot be loaded ({first_line(error)}): reinstall it") from error
    if tuple(int(part) for part in version.split(".")[:2]) < min_version:
        needed = ".".join(map(str, min_version))
        raise DeviceError(
            f"device {device!r} needs {package}>={needed}, found {version}: pip install --upgrade {package}"
        )
    return module


def is_raised_by(package: str, error: Exception) -> bool:
    """Return whether an engine raised an exception: in a class of its package, or one of C++'s in its Python form.

    Others are the caller's. Python runs signal handlers as soon as a native call returns, and what one raises, to end a
    call that takes too long for example, seems to come from the engine.
    """
    kind = type(error)
    if kind.__module__.partition(".")[0] == package:
        return True
    # Subclasses are not the engine's: a deadline may be a RuntimeError.
    return kind in _TRANSLATED and not passed_a_signal_handler(error)


def check_process(process: int) -> None:
    """Raise ``MonographError`` unless this is the process, by its id, in which a model was opened."""
    if process != os.getpid():
        raise MonographError(
            "this model was opened before the process was forked, and its threads are not in this process: open "
            "it in each worker (gunicorn: without --preload), or start the workers with 'spawn'"
        )


class NativeObject(Generic[_T]):
    """A session or compiled model, usable until it is released and only in the process that made it."""

    def __init__(self, value: _T) -> None:
        self._value: _T | None = value
        self._process = os.getpid()
        _register_fork_handler()
        _alive.add(self)

    def get(self) -> _T:
        """Return the object.

        Raises:
            MonographError: it was released, or this process was forked from the one that made it.

        """
        check_process(self._process)
        if self._value is None:
            raise MonographError("the model was closed: open it again to go on")
        return self._value

    def release(self) -> None:
        """Destroy the object once no run uses it any more."""
        self._value = None


@functools.cache
def _register_fork_handler() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leak_all)


def _leak_all() -> None:
    """Never destroy the objects that a forked child inherited, not even at its exit."""
    for native in list(_alive):
        if native._value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native._value))
