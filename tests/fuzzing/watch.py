"""What a case opens: files next to the bundle, by any process, and whatever Python opens in this one."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fuzzing.outcomes import Violation

_IN_OPEN = 0x20
_IN_ISDIR = 0x40000000
_IN_NONBLOCK = 0o4000
_EVENT = struct.Struct("iIII")


class OpenedFiles:
    """Names of the files that are opened directly in some folders, by inotify: native code is seen as well."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(_IN_NONBLOCK)
        self._folders: dict[int, Path] = {}
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot be used")

    def add(self, folder: Path) -> None:
        """Watch another folder."""
        watch = self._libc.inotify_add_watch(self._file, os.fsencode(folder), _IN_OPEN)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
        self._folders[watch] = folder

    def take(self) -> set[Path]:
        """Return what was opened since the last call."""
        return set(self._events())

    def _events(self) -> Iterator[Path]:
        while True:
            try:
                content = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return
            place = 0
            while place < len(content):
                watch, mask, _, length = _EVENT.unpack_from(content, place)
                place += _EVENT.size
                name = content[place : place + length].rstrip(b"\0")
                place += length
                if name and not mask & _IN_ISDIR and watch in self._folders:
                    yield self._folders[watch] / os.fsdecode(name)


class Audit:
    """Reports what Python opens outside of the folders where a case has a reason to, and every use of the network."""

    def __init__(self, *folders: Path) -> None:
        installed = {sys.prefix, sys.base_prefix, *sys.path, *sysconfig.get_paths().values(), Path(__file__).parents[2]}
        everywhere = (*installed, *folders, "/proc", "/sys", "/dev", "/usr/lib")
        self._allowed = tuple(os.path.realpath(str(folder)) + os.sep for folder in everywhere)
        self._seen: list[str] = []
        sys.addaudithook(self._hear)

    def forget(self) -> None:
        """Leave out what was seen so far."""
        self._seen.clear()

    def check(self) -> None:
        """Raise ``Violation`` for what was seen since the last call."""
        seen, self._seen = self._seen, []
        if seen:
            raise Violation("use of something foreign", "; ".join(seen[:3]))

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self._allowed):
                self._seen.append(f"opened {path}")
        elif event in ("socket.getaddrinfo", "os.system") or (
            event == "socket.connect" and isinstance(arguments[1], tuple)
        ):
            self._seen.append(f"{event} {arguments[1:]!r}")
